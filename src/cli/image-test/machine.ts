import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { efiSignatureList } from './efi-signature-list.ts'
import { SerialConsole } from './serial-console.ts'

const firmwareFolder = '/usr/share/OVMF'

/** A virtual machine that boots from a small disk with iPXE on it. */
export interface MachineOptions {
  /** For messages and the folder's name. */
  readonly name: string
  /** Only UEFI is tried here. */
  readonly firmware?: 'uefi'
  /** The iPXE program, an .efi file of `ensureArtifacts().ipxe`. */
  readonly ipxe: string
  /** PEM of the root that the firmware gives iPXE to trust. Left out: it trusts public authorities only. */
  readonly caCert?: string
  /** The script iPXE finds beside itself. */
  readonly autoexec: string
  /** A second disk, next in the firmware's order: an iPXE that runs this script stands for the installed system. */
  readonly installedDisk?: string
  readonly mac: string
  readonly uuid: string
  readonly serial: string
  /** QEMU's name of the network adapter. Default: virtio-net-pci. */
  readonly nic?: string
  /** A port of this machine's loopback that leads to the machine's SSH port. */
  readonly sshPort?: number
  /** Default 768. */
  readonly memoryMiB?: number
  /** The hardware clock at power-on. Default: now. */
  readonly clock?: Date
  /** The machine is ended after this time, whatever it does. Default 120. */
  readonly timeoutSeconds?: number
}

/** How a machine ended: `off` by itself (power off or reboot), `killed` by the test, `timeout` and `flooded` by the hard limits. */
export type MachineEnd = 'off' | 'killed' | 'timeout' | 'flooded'

/** A running machine. Always `await machine.powerOff()` at the end of a test. */
export interface Machine {
  readonly name: string
  /** Its files, removed by `powerOff`; `console.log` in it is the raw serial output. */
  readonly dir: string
  readonly pid: number
  /** What it printed so far, without control codes: the last MiB of it. */
  console(): string
  /** What was printed behind `position` of the whole, and where it ends by now. */
  printedSince(position: number): { readonly text: string; readonly position: number }
  /** The line that matched, as soon as it is printed. Throws with the last lines of the console when it is not. */
  waitFor(pattern: RegExp | string, seconds?: number): Promise<string>
  /** When it has ended. A guest that reboots ends too: machines run one boot only. */
  readonly exited: Promise<MachineEnd>
  /** Pulls the plug (by process id) and removes the folder. May be called again, and after the end. */
  powerOff(): Promise<void>
}

/**
 * Starts a machine under QEMU's software emulation: slow (a boot takes about 25 s) and the same everywhere. Inside it 10.0.2.2 is
 * this machine's 127.0.0.1, so a server on loopback is enough.
 */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const dir = await mkdtemp(join(tmpdir(), `pawl-${options.name}-`))
  const args = await prepare(dir, options)
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const serial = new SerialConsole(join(dir, 'console.log'))
  const end = watchEnd(child, options.timeoutSeconds ?? 120, serial, dir)
  const listen = (bytes: Buffer): void => {
    if (!serial.add(bytes)) end.kill('flooded')
  }
  child.stdout.on('data', listen)
  child.stderr.on('data', listen)
  await once(child, 'spawn')
  return {
    name: options.name,
    dir,
    // A child that was spawned has a pid.
    pid: child.pid!,
    console: () => serial.text(),
    printedSince: (position) => serial.since(position),
    waitFor: (pattern, seconds = 120) => serial.waitFor(pattern, seconds, options.name),
    exited: end.exited,
    async powerOff() {
      end.kill('killed')
      await end.exited
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function prepare(dir: string, options: MachineOptions): Promise<string[]> {
  const disks = await makeDisk(dir, 'esp', 1, options.ipxe, options.autoexec)
  if (options.installedDisk !== undefined)
    disks.push(...(await makeDisk(dir, 'installed', 2, options.ipxe, options.installedDisk)))
  await copyFile(`${firmwareFolder}/OVMF_VARS_4M.fd`, join(dir, 'vars.fd'))
  const trust: string[] = []
  if (options.caCert !== undefined) {
    await writeFile(join(dir, 'cacerts.esl'), efiSignatureList(options.caCert))
    trust.push('-fw_cfg', `name=etc/edk2/https/cacerts,file=${join(dir, 'cacerts.esl')}`)
  }
  const forward = options.sshPort === undefined ? '' : `,hostfwd=tcp:127.0.0.1:${options.sshPort}-:22`
  return [
    // Never KVM: nested, it hangs or aborts on many machines that have /dev/kvm.
    ...['-machine', 'q35,accel=tcg', '-smp', '1', '-m', String(options.memoryMiB ?? 768)],
    ...['-no-reboot', '-monitor', 'none', '-serial', 'stdio', '-display', 'none'],
    ...['-drive', `if=pflash,format=raw,readonly=on,file=${firmwareFolder}/OVMF_CODE_4M.fd`],
    ...['-drive', `if=pflash,format=raw,file=${join(dir, 'vars.fd')}`],
    ...trust,
    ...disks,
    ...['-netdev', `user,id=net0,ipv6=off${forward}`],
    ...['-device', `${options.nic ?? 'virtio-net-pci'},netdev=net0,romfile=,mac=${options.mac}`],
    ...(options.clock ? ['-rtc', `base=${options.clock.toISOString().slice(0, 19)}`] : []),
    // Saves 4 s of gathering entropy.
    ...['-device', 'virtio-rng-pci'],
    ...['-uuid', options.uuid, '-smbios', `type=1,serial=${options.serial}`],
  ]
}

/** A disk from a folder with iPXE and its script, and the options that put it in this place of the boot order. */
async function makeDisk(
  dir: string,
  name: string,
  order: number,
  ipxe: string,
  script: string,
): Promise<string[]> {
  const files = join(dir, name)
  await mkdir(join(files, 'EFI/BOOT'), { recursive: true })
  await copyFile(ipxe, join(files, 'EFI/BOOT/BOOTX64.EFI'))
  // iPXE looks beside itself or at the root, depending on its version.
  await writeFile(join(files, 'EFI/BOOT/autoexec.ipxe'), script)
  await writeFile(join(files, 'autoexec.ipxe'), script)
  return [
    ...['-drive', `file=fat:${files},format=raw,if=none,id=${name},readonly=on`],
    ...['-device', `virtio-blk-pci,drive=${name},bootindex=${order}`],
  ]
}

function watchEnd(child: ChildProcess, timeoutSeconds: number, serial: SerialConsole, dir: string) {
  let how: MachineEnd = 'off'
  const kill = (why: MachineEnd) => {
    if (child.exitCode !== null || child.signalCode !== null) return
    how = why
    child.kill('SIGKILL')
  }
  // The machine must not outlive a test that was ended from outside, nor its files.
  const onExit = () => {
    kill('killed')
    rmSync(dir, { recursive: true, force: true })
  }
  process.once('exit', onExit)
  const timer = setTimeout(() => kill('timeout'), timeoutSeconds * 1000)
  const exited = new Promise<MachineEnd>((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer)
      process.removeListener('exit', onExit)
      serial.end()
    }
    child.once('error', (error) => {
      settle()
      reject(new Error(`qemu-system-x86_64 does not run: ${error.message}`))
    })
    child.once('close', () => {
      settle()
      resolve(how)
    })
  })
  // Whoever does not wait for the end must not be told of it as an unhandled rejection.
  exited.catch(() => undefined)
  return { exited, kill }
}
