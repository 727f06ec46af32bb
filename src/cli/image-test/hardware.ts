import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Architecture } from '../../domain/architecture.ts'
import { efiSignatureList } from './efi-signature-list.ts'
import type { MachineOptions } from './machine.ts'

/** What differs between machines of one processor and another: Debian's firmware, and where that looks for a program. */
const boards: Readonly<
  Record<
    Architecture,
    {
      readonly code: string
      readonly variables: string
      readonly program: string
      readonly machine: readonly string[]
    }
  >
> = {
  x86_64: {
    code: '/usr/share/OVMF/OVMF_CODE_4M.fd',
    variables: '/usr/share/OVMF/OVMF_VARS_4M.fd',
    program: 'BOOTX64.EFI',
    machine: ['-machine', 'q35,accel=tcg'],
  },
  arm64: {
    code: '/usr/share/AAVMF/AAVMF_CODE.fd',
    variables: '/usr/share/AAVMF/AAVMF_VARS.fd',
    program: 'BOOTAA64.EFI',
    machine: ['-machine', 'virt,accel=tcg', '-cpu', 'cortex-a72'],
  },
}

/** QEMU's program for a processor. */
export function emulatorOf(architecture: Architecture = 'x86_64'): string {
  return architecture === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64'
}

function boardOf({ architecture = 'x86_64' }: MachineOptions) {
  return boards[architecture]
}

/** Lays the machine's files into its folder; returns QEMU's options. */
export async function assemble(dir: string, options: MachineOptions): Promise<string[]> {
  const firmware = options.firmware === 'bios' ? [] : await uefi(dir, options)
  return [
    // Never KVM: nested, it hangs or aborts on many machines that have /dev/kvm. Without graphics a BIOS speaks on the serial line.
    ...(options.firmware === 'bios' ? ['-machine', 'q35,accel=tcg,graphics=off'] : boardOf(options).machine),
    ...['-smp', '1', '-m', String(options.memoryMiB ?? 768)],
    ...['-no-reboot', '-monitor', 'none', '-serial', 'stdio', '-display', 'none'],
    ...firmware,
    ...Object.entries(options.fwCfg ?? {}).flatMap(([name, text]) => [
      '-fw_cfg',
      `name=${name},string=${text}`,
    ]),
    ...(await disks(dir, options)),
    ...network(options),
    ...(options.clock ? ['-rtc', `base=${options.clock.toISOString().slice(0, 19)}`] : []),
    // Saves 4 s of gathering entropy.
    ...['-device', 'virtio-rng-pci'],
    ...['-uuid', options.uuid, '-smbios', `type=1,serial=${options.serial}`],
  ]
}

/** The firmware with variables of its own, and the root it trusts where there is one. */
async function uefi(dir: string, options: MachineOptions): Promise<string[]> {
  const { code, variables } = boardOf(options)
  await copyFile(options.firmwareVariables ?? variables, join(dir, 'vars.fd'))
  const trust: string[] = []
  if (options.caCert !== undefined) {
    await writeFile(join(dir, 'cacerts.esl'), efiSignatureList(options.caCert))
    trust.push('-fw_cfg', `name=etc/edk2/https/cacerts,file=${join(dir, 'cacerts.esl')}`)
  }
  return [
    ...['-drive', `if=pflash,format=raw,readonly=on,file=${code}`],
    ...['-drive', `if=pflash,format=raw,file=${join(dir, 'vars.fd')}`],
    ...trust,
  ]
}

/** The network adapter. It is what a machine without a disk boots from. */
function network(options: MachineOptions): string[] {
  const forward = options.sshPort === undefined ? '' : `,hostfwd=tcp:127.0.0.1:${options.sshPort}-:22`
  const cable =
    options.tap === undefined
      ? `user,id=net0,${options.family === 6 ? 'ipv4=off,ipv6=on' : 'ipv6=off'}${forward}`
      : `tap,id=net0,ifname=${options.tap.device},script=no,downscript=no`
  const order = options.ipxe === undefined && options.medium === undefined ? ',bootindex=1' : ''
  const adapter = `${options.nic ?? 'virtio-net-pci'},netdev=net0,romfile=${options.nicRom ?? ''}`
  return ['-netdev', cable, '-device', `${adapter},mac=${options.mac}${order}`]
}

/** What a medium can be, and QEMU's words for it. */
export const mediumDevices = {
  disk: { media: '', devices: ['virtio-blk-pci,drive=medium,bootindex=1'] },
  stick: { media: '', devices: ['qemu-xhci', 'usb-storage,drive=medium,bootindex=1'] },
  cd: { media: ',media=cdrom,readonly=on', devices: ['ide-cd,drive=medium,bootindex=1'] },
} as const

async function disks(dir: string, options: MachineOptions): Promise<string[]> {
  const { ipxe, autoexec, files = {}, installedDisk, medium } = options
  if (medium !== undefined) {
    const { media, devices } = mediumDevices[options.mediumAs ?? 'disk']
    const drive = `file=${medium},format=raw,if=none,id=medium${media}`
    return ['-drive', drive, ...devices.flatMap((device) => ['-device', device])]
  }
  if (ipxe === undefined) return []
  const { program } = boardOf(options)
  const made = await makeDisk(dir, 'esp', 1, { program, ipxe }, autoexec)
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, 'esp', path)), { recursive: true })
    await writeFile(join(dir, 'esp', path), content)
  }
  if (installedDisk !== undefined)
    made.push(...(await makeDisk(dir, 'installed', 2, { program, ipxe }, installedDisk)))
  return made
}

/** A disk from a folder with iPXE and its script, and the options that put it in this place of the boot order. */
async function makeDisk(
  dir: string,
  name: string,
  order: number,
  { program, ipxe }: { readonly program: string; readonly ipxe: string },
  script: string | undefined,
): Promise<string[]> {
  const files = join(dir, name)
  await mkdir(join(files, 'EFI/BOOT'), { recursive: true })
  await copyFile(ipxe, join(files, 'EFI/BOOT', program))
  if (script !== undefined) {
    // iPXE looks beside itself or at the root, depending on its version.
    await writeFile(join(files, 'EFI/BOOT/autoexec.ipxe'), script)
    await writeFile(join(files, 'autoexec.ipxe'), script)
  }
  return [
    ...['-drive', `file=fat:${files},format=raw,if=none,id=${name},readonly=on`],
    ...['-device', `virtio-blk-pci,drive=${name},bootindex=${order}`],
  ]
}
