import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Architecture } from '../../domain/architecture.ts'
import { assemble, emulatorOf, type mediumDevices } from './hardware.ts'
import { SerialConsole } from './serial-console.ts'

/** The end of a network cable in a network namespace. */
export interface MachineTap {
  /** The tap device. */
  readonly device: string
  /** The command that runs another one where the device is: `ip netns exec NAME`. */
  readonly command: readonly string[]
}

/** A virtual machine that boots from a small disk with iPXE on it, or from the network. */
export interface MachineOptions {
  /** For messages and the folder's name. */
  readonly name: string
  /** Default: x86_64. arm64 has UEFI only. */
  readonly architecture?: Architecture
  /** Default: UEFI (OVMF). A BIOS (SeaBIOS) boots from the network only. */
  readonly firmware?: 'uefi' | 'bios'
  /** The firmware's variables at power-on, a file like OVMF_VARS_4M.fd. Default: those of a new machine. */
  readonly firmwareVariables?: string
  /** What QEMU tells the firmware, by name: `opt/org.tianocore/IPv4PXESupport` and others. */
  readonly fwCfg?: Readonly<Record<string, string>>
  /** The iPXE program on its disk, an .efi file. Left out: no disk, and the firmware boots from the network. */
  readonly ipxe?: string
  /** PEM of the root that the firmware gives iPXE to trust. Left out: it trusts public authorities only. */
  readonly caCert?: string
  /** The script iPXE finds beside itself on the disk. */
  readonly autoexec?: string
  /** More files on that disk, by their path. */
  readonly files?: Readonly<Record<string, string>>
  /** A raw disk image that it boots from in place of `ipxe` and `autoexec`: a stick, which the machine may write to. */
  readonly medium?: string
  /** What it is in the machine. Default: a disk; a stick is on USB, a CD cannot be written to. */
  readonly mediumAs?: keyof typeof mediumDevices
  /** A second disk, next in the firmware's order: an iPXE that runs this script stands for the installed system. */
  readonly installedDisk?: string
  readonly mac: string
  readonly uuid: string
  readonly serial: string
  /** QEMU's name of the network adapter. Default: virtio-net-pci. */
  readonly nic?: string
  /** The option ROM of the adapter, a file. Default: none; OVMF drives a virtio adapter by itself, a BIOS none at all. */
  readonly nicRom?: string
  /** The address family of QEMU's own user network. Default: 4. With 6 there is no IPv4 at all, and fec0::2 is this machine's ::1. */
  readonly family?: 4 | 6
  /** The cable. Default: QEMU's own user network, in which 10.0.2.2 is this machine's 127.0.0.1. */
  readonly tap?: MachineTap
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
 * Starts a machine under QEMU's software emulation: slow (a boot takes about 25 s) and the same everywhere.
 */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const dir = await mkdtemp(join(tmpdir(), `pawl-${options.name}-`))
  const [program = '', ...args] = [
    ...(options.tap?.command ?? []),
    emulatorOf(options.architecture),
    ...(await assemble(dir, options)),
  ]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
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
      reject(new Error(`QEMU does not run: ${error.message}`))
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
