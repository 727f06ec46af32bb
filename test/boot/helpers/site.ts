import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import type { Timeline } from '../../../src/cli/answers.ts'
import { type Machine, type MachineOptions, startMachine } from '../../../src/cli/image-test/machine.ts'
import { type BootArtifacts, ensureArtifacts, type IpxeSuite } from './artifacts.ts'
import type { TestNetwork } from './network.ts'
import { freePort, inUrl, run, runPawl, type ServerProcess, startServer } from './process.ts'
import { ensureBootTools } from './tools.ts'
import { takeTurn } from './turns.ts'

const pawl = join(import.meta.dirname, '../../../bin/pawl')
const trustRecipe = join(import.meta.dirname, '../../../images/trust.sh')

/** A Pawl server of its own in a temporary folder, with two images and a profile, run and asked as a user does. */
export interface Site {
  readonly dataDir: string
  /** The root certificate, PEM. */
  readonly ca: string
  readonly artifacts: BootArtifacts
  /** `pawl`, run where the server is: in the network it was started in. */
  readonly command: readonly [string, ...string[]]
  /** The port that the server's boot listener has on loopback, or on its address in the network. */
  readonly bootPort: number
  /** The address of the operator listener. */
  readonly operatorUrl: () => string
  /** Runs a pawl command and returns what `--json` prints. Throws with what it said when it fails. */
  // biome-ignore lint/suspicious/noExplicitAny: each answer has a shape of its own, which the test compares
  pawl(...args: string[]): Promise<any>
  /** Ends the server without a warning. */
  kill(): Promise<void>
  /** Starts it again, on the same data and ports. */
  start(): Promise<void>
  /** Registers a node and returns its site script, secret included. */
  addNode(name: string, ...flags: string[]): Promise<string>
  /** Powers a machine on. */
  powerOn(name: string, autoexec: string, options?: PowerOnOptions): Promise<Machine>
  /** The server's log so far. */
  log(): string
  stop(): Promise<void>
}

/** How a machine differs from the usual one. */
export type PowerOnOptions = Partial<MachineOptions> & {
  readonly suite?: IpxeSuite
  /** Its firmware does not know our root. */
  readonly withoutCa?: boolean
  /** It has no disk: its firmware boots from the network. */
  readonly diskless?: boolean
}

/** What a site is started with. */
export interface SiteOptions {
  readonly say?: (line: string) => void
  /** The port that machines are told, when it is not the server's own (a proxy's). */
  readonly publicPort?: number
  readonly bootPort?: number
  /** Where the server and the commands run. Default: this machine's loopback, which QEMU's user network leads to. */
  readonly network?: TestNetwork
  /** The server's address that machines are told, and that it listens on, in a network: one of the network's own. */
  readonly address?: string
  /** More flags of `pawl server`. */
  readonly flags?: readonly string[]
  /** How many machines the test has on at one time; 1 by default. */
  readonly machines?: number
}

/**
 * What a kernel under emulation is spared: its tests of its own ciphers take a tenth of its start, and on a busy machine it takes a
 * late timer for a broken one and stops ("IO-APIC + timer doesn't work").
 */
const emulated = 'no_timer_check cryptomgr.notests'

/** The profile of the boot tests and the demo: console on the serial line, and machines that power off when they are ready. */
export const profile = (more = ''): string => `name: demo
kernelArguments: console=ttyS0 pawl.after=poweroff pawl.reboot_delay=2 ${emulated} ${more}
boot:
  stage2: pawl-stage2@1
  stage3: pawl-stage3/stable
  join: { kind: none, settings: { cluster: demo } }
reinstall:
  stage2: pawl-stage2@1
  stage3: pawl-stage3@1
`

/** Starts a site. Everything it makes is gone after `stop`. */
export async function startSite(options: SiteOptions = {}): Promise<Site> {
  const say = options.say ?? (() => undefined)
  ensureBootTools(say)
  const artifacts = await ensureArtifacts(say)
  const folder = await mkdtemp(join(tmpdir(), 'pawl-site-'))
  const dataDir = join(folder, 'data')
  const bootPort = options.bootPort ?? (await freePort())
  const { network } = options
  const address = options.address ?? network?.address
  const publicUrl = `https://${inUrl(address ?? '10.0.2.2')}:${options.publicPort ?? bootPort}`
  const command: Site['command'] = network === undefined ? [pawl] : [...network.command, pawl]
  let server: ServerProcess | undefined
  let log = ''
  let giveBackTurn: (() => void) | undefined

  const site: Site = {
    dataDir,
    ca: '',
    artifacts,
    command,
    bootPort,
    operatorUrl: () => server?.operator ?? '',
    pawl: async (...args) => {
      const out = await runPawl(command, [...args, '--data', dataDir, '--json'])
      return out === '' ? undefined : JSON.parse(out)
    },
    kill: async () => {
      server?.child.kill('SIGKILL')
      if (server !== undefined && server.child.exitCode === null) await once(server.child, 'close')
      server = undefined
    },
    start: async () => {
      const flags = [
        '--data',
        dataDir,
        '--boot-listen',
        `${inUrl(address ?? '127.0.0.1')}:${bootPort}`,
        '--operator-listen',
        '127.0.0.1:0',
      ]
      server = await startServer(command, [...flags, ...(options.flags ?? [])], (text) => {
        log += text
      })
    },
    addNode: async (name, ...flags) => {
      await site.pawl('node', 'add', name, '--profile', 'demo', ...flags)
      const script = join(folder, `${name}.ipxe`)
      await site.pawl('node', 'secret', name, '--autoexec', script)
      return readFile(script, 'utf8')
    },
    powerOn: (name, autoexec, { suite = 'trixie', withoutCa = false, diskless = false, ...more } = {}) =>
      startMachine({
        name,
        ...factsOf(name),
        ...(diskless ? {} : { autoexec, ipxe: artifacts.ipxe[suite] }),
        ...(withoutCa ? {} : { caCert: site.ca }),
        ...more,
      }),
    log: () => log,
    stop: async () => {
      giveBackTurn?.()
      if (server !== undefined && server.child.exitCode === null) {
        const closed = once(server.child, 'close')
        server.child.kill('SIGTERM')
        await closed
      }
      await rm(folder, { recursive: true, force: true })
    },
  }
  try {
    await runPawl(command, ['init', '--data', dataDir, '--public-url', publicUrl])
    Object.assign(site, { ca: await readFile(join(dataDir, 'ca.crt'), 'utf8') })
    await site.start()
    await publish(site)
    giveBackTurn = await takeTurn(options.machines ?? 1)
    return site
  } catch (error) {
    await site.stop()
    throw error
  }
}

/** The stage-2 initramfs as this site would publish it: it trusts the site's own publisher. */
export function trustedInitramfs(site: Site, ...flags: string[]): Promise<string> {
  return trusting(site, site.artifacts.stage2.initramfs, ...flags)
}

/** Another stage-2 initramfs, made to trust the site's own publisher. */
export async function trusting(site: Site, initramfs: string, ...flags: string[]): Promise<string> {
  const out = join(site.dataDir, '..', 'stage2-initramfs')
  const publisher = join(site.dataDir, 'publisher.crt')
  await run('sh', [trustRecipe, '--initramfs', initramfs, '--publisher', publisher, '--out', out, ...flags])
  return out
}

async function publish(site: Site): Promise<void> {
  const { stage2, stage3 } = site.artifacts
  const image = ['--min-memory', '256']
  await site.pawl(
    'image',
    'publish',
    'pawl-stage2@1',
    '--kernel',
    stage2.kernel,
    '--initramfs',
    await trustedInitramfs(site),
    ...image,
  )
  const filesystem = ['--filesystem', stage3.filesystem]
  await site.pawl(
    'image',
    'publish',
    'pawl-stage3@1',
    '--kernel',
    stage3.kernel,
    '--initramfs',
    stage3.initramfs,
    ...filesystem,
    ...image,
  )
  await site.pawl('channel', 'set', 'pawl-stage3/stable', '1')
  await applyProfile(site, profile())
}

/** Applies a profile from its text. */
export async function applyProfile(site: Site, text: string): Promise<void> {
  await runPawl(site.command, ['profile', 'apply', '-f', '-', '--data', site.dataDir, '--json'], text)
}

/** An event as `event list --json` shows it. */
export interface ListedEvent {
  readonly at: string
  readonly kind: string
  readonly node: string | null
  // biome-ignore lint/suspicious/noExplicitAny: each kind has a detail of its own, which the test compares
  readonly detail: any
}

/** The events that a filter matches, oldest first. */
export async function eventsOf(site: Site, ...filter: string[]): Promise<ListedEvent[]> {
  return (await site.pawl('event', 'list', ...filter)).items
}

/** The kinds of a session's tokens that still open something, from the server's own table. */
export function openTokens(site: Site, session: string): string[] {
  const db = new Database(join(site.dataDir, 'pawl.db'), { readonly: true })
  try {
    const query = 'select kind from tokens where session = ? and consumed_at is null and retired_at is null'
    return db.prepare(query).pluck().all(session) as string[] // the column is text
  } finally {
    db.close()
  }
}

/** A word that could be a token: 44 base64url characters, and not a part of a digest. */
export const tokenLike = /(?<![A-Za-z0-9_-])(?![0-9a-f]{44})[A-Za-z0-9_-]{44}(?![A-Za-z0-9_-])/

/**
 * What the server's own answers took in a boot, its downloads not among them: a line for the log of the test. Less than 100 ms is the
 * aim on a machine with nothing else to do; what a test may hold against it is not a time of the clock.
 */
export function answersTook(stages: Timeline['stages']): string {
  const answers = stages
    .flatMap((stage) => stage.spans)
    .filter(({ kind }) => kind === 'asked' || kind === 'reported')
  const each = answers.map(
    ({ kind, detail, seconds }) => `${kind === 'asked' ? detail : 'report'} ${inMilliseconds(seconds)}`,
  )
  return `the server's answers took ${inMilliseconds(answers.reduce((sum, { seconds }) => sum + seconds, 0))} ms together: ${each.join(', ')}`
}

function inMilliseconds(seconds: number): number {
  return Math.round(seconds * 1000)
}

/** What the machine's console says in Pawl's words, for the log of the test. */
export function pawlLines(machine: Machine): string {
  return machine
    .console()
    .split('\n')
    .filter((line) => /^(Pawl|pawl): /.test(line))
    .join('\n')
}

/** MAC, UUID and serial of a machine, the same for the same name. */
export function factsOf(name: string): { mac: string; uuid: string; serial: string } {
  const number = [...name].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 65_536, 7)
  const hex = number.toString(16).padStart(4, '0')
  return {
    mac: `52:54:00:12:${hex.slice(0, 2)}:${hex.slice(2)}`,
    uuid: `11111111-2222-3333-4444-55555555${hex}`,
    serial: `SN-${hex}`,
  }
}
