import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MachineTap } from '../../../src/cli/image-test/machine.ts'
import { type Command, run } from './process.ts'

/**
 * A network of a test's own: a network namespace with one bridge, the cables (taps) of machines on it, and whatever is run inside.
 * Nothing outside it sees a packet of it, so a DHCP server in it is nobody's trouble. It goes with the test, however that ends.
 */
export interface TestNetwork {
  /** The namespace. */
  readonly name: string
  /** The bridge; a DHCP server's `interface`. */
  readonly bridge: string
  /** The bridge's first address, without its prefix length: where a server inside listens. */
  readonly address: string
  /** The command that runs another one inside: `ip netns exec NAME`. It becomes that command: killing it kills that. */
  readonly command: Command
  /** A new cable for a machine (`startMachine({ tap })`). */
  tap(): Promise<MachineTap>
  /** Runs a command inside to its end; returns its stdout, throws with its stderr when it fails. */
  run(command: string, ...args: string[]): Promise<string>
  /** Starts a command inside. It is ended with the network. */
  spawn(command: string, ...args: string[]): ChildProcess
  /** Starts dnsmasq inside with this configuration; resolves when it serves, throws with what it said when it does not. */
  dnsmasq(configuration: string): Promise<Dnsmasq>
  /** Ends all that was started here, by process id, and takes the network down. May be called again. */
  stop(): Promise<void>
}

/** A dnsmasq that serves. */
export interface Dnsmasq {
  /** What it logged so far; `log-dhcp` in its configuration makes that much. */
  log(): string
  /** The line that matches, as soon as it is logged. */
  waitFor(pattern: RegExp, seconds?: number): Promise<string>
  stop(): Promise<void>
}

/** What a network is made of. */
export interface NetworkOptions {
  /** The bridge's addresses, each with its prefix length. Default: 10.93.0.1/24. */
  readonly addresses?: readonly [string, ...string[]]
}

/** The Debian packages that it takes, with one file of each. */
export const networkPackages = { iproute2: '/usr/sbin/ip', 'dnsmasq-base': '/usr/sbin/dnsmasq' } as const

/** Why no network can be made here; undefined where one can. With PAWL_REQUIRE=all that is a failure, and never said here. */
export function networkAbsent(): string | undefined {
  return process.env.PAWL_REQUIRE === 'all' ? undefined : whyAbsent()
}

function whyAbsent(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root: network namespaces'
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun'
  const missing = Object.entries(networkPackages).filter(([, file]) => !existsSync(file))
  return missing.length === 0 ? undefined : `not installed: ${missing.map(([name]) => name).join(', ')}`
}

let made = 0

/** Makes a network. */
export async function startNetwork(options: NetworkOptions = {}): Promise<TestNetwork> {
  const absent = whyAbsent()
  if (absent !== undefined) throw new Error(`no network namespace: ${absent}`)
  removeLeftovers()
  made += 1
  const name = `pawl-test-${process.pid}-${made}`
  const bridge = 'br0'
  const folder = mkdtempSync(join(tmpdir(), `${name}-`))
  const children = new Set<ChildProcess>()
  const command = ['ip', 'netns', 'exec', name] as const
  const inside = (...args: string[]): Promise<string> => run('ip', ['-n', name, ...args])
  let taps = 0

  const takeDown = (): void => {
    process.removeListener('exit', takeDown)
    for (const child of children) child.kill('SIGKILL')
    spawnSync('ip', ['netns', 'del', name])
    rmSync(folder, { recursive: true, force: true })
  }
  // A test that was ended leaves no namespace behind.
  process.once('exit', takeDown)

  const network: TestNetwork = {
    name,
    bridge,
    address: (options.addresses?.[0] ?? '10.93.0.1/24').replace(/\/.*/, ''),
    command,
    async tap() {
      const device = `tap${taps}`
      taps += 1
      await inside('tuntap', 'add', 'dev', device, 'mode', 'tap')
      await inside('link', 'set', device, 'master', bridge, 'up')
      return { device, command }
    },
    run: (program, ...args) => run('ip', [...command.slice(1), program, ...args]),
    spawn(program, ...args) {
      const child = spawn('ip', [...command.slice(1), program, ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      children.add(child)
      child.once('close', () => children.delete(child))
      return child
    },
    dnsmasq(configuration) {
      const folderOfOne = mkdtempSync(join(folder, 'dnsmasq-'))
      return startDnsmasq(network, folderOfOne, configuration)
    },
    async stop() {
      await Promise.all([...children].map(endOf))
      takeDown()
    },
  }
  try {
    await run('ip', ['netns', 'add', name])
    // No duplicate address detection: on a bridge nobody is on yet it would never end.
    await network.run('sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad')
    await inside('link', 'set', 'lo', 'up')
    // Ports of a bridge that forward at once: firmware does not wait for a spanning tree.
    await inside('link', 'add', bridge, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
    for (const address of options.addresses ?? ['10.93.0.1/24']) {
      const usableAtOnce = address.includes(':') ? ['nodad'] : []
      await inside('address', 'add', address, 'dev', bridge, ...usableAtOnce)
    }
    await inside('link', 'set', bridge, 'up')
    return network
  } catch (error) {
    takeDown()
    throw error
  }
}

async function startDnsmasq(network: TestNetwork, folder: string, configuration: string): Promise<Dnsmasq> {
  const file = join(folder, 'dnsmasq.conf')
  writeFileSync(file, configuration)
  const child = network.spawn(
    'dnsmasq',
    ...['--keep-in-foreground', `--conf-file=${file}`, '--log-facility=-', '--user=root'],
    ...['--no-hosts', '--no-resolv', '--pid-file=', `--dhcp-leasefile=${join(folder, 'leases')}`],
  )
  let log = ''
  const readers = new Set<() => void>()
  const read = (data: Buffer): void => {
    log += data.toString('utf8')
    for (const reader of [...readers]) reader()
  }
  child.stderr?.on('data', read)
  child.stdout?.on('data', read)
  child.once('close', () => {
    for (const reader of [...readers]) reader()
  })
  const waitFor = (pattern: RegExp, seconds = 60): Promise<string> =>
    new Promise((resolve, reject) => {
      const settle = (done: () => void): void => {
        clearTimeout(timer)
        readers.delete(look)
        done()
      }
      const fail = (why: string): void =>
        settle(() => reject(new Error(`dnsmasq ${why}: ${pattern}\n${log.slice(-2000)}`)))
      const look = (): void => {
        const line = log.split('\n').find((each) => pattern.test(each))
        if (line !== undefined) settle(() => resolve(line))
        else if (child.exitCode !== null || child.signalCode !== null) fail('ended without saying')
      }
      const timer = setTimeout(() => fail(`has not said in ${seconds} s`), seconds * 1000)
      readers.add(look)
      look()
    })
  await waitFor(/ started, version /, 10)
  return { log: () => log, waitFor, stop: () => endOf(child) }
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = once(child, 'close')
  child.kill('SIGKILL')
  await closed
}

/** Removes the namespaces of test processes that were killed and could not do it. */
function removeLeftovers(): void {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
  for (const [, name, pid] of stdout.matchAll(/^(pawl-test-(\d+)-\d+)\b/gm))
    if (name !== undefined && !existsSync(`/proc/${pid}`)) spawnSync('ip', ['netns', 'del', name])
}
