import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import type { Test } from 'tap'
import { freePort } from './ports.ts'

/** A PostgreSQL cluster of one test, which the test stops and starts as it likes. It listens on 127.0.0.1. */
export interface Cluster {
  readonly port: number
  url(database: string): string
  /** Makes an empty database; returns its URL. */
  create(database: string): Promise<string>
  /** `pg_ctl restart`: with `fast` sessions are ended, with `immediate` it recovers like after a crash. */
  restart(mode: 'fast' | 'immediate'): Promise<void>
  stop(mode: 'fast' | 'immediate'): Promise<void>
  start(): Promise<void>
  /** Ends all its processes with -9 at one moment, like a host that loses its power. */
  kill(): Promise<void>
  /** Runs statements as the superuser, on a connection of its own. */
  query(text: string, database?: string): Promise<Record<string, unknown>[]>
}

/** A standby that follows a cluster until it is promoted. */
export interface Standby extends Cluster {
  /** `pg_ctl promote`: resolves when it takes writes. */
  promote(): Promise<void>
}

function binaries(): string | undefined {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root) : []
  const newest = versions.sort((a, b) => Number(b) - Number(a))
  return newest.map((version) => join(root, version, 'bin')).find((bin) => existsSync(join(bin, 'pg_ctl')))
}

/** Starts one with durable commits, and ends it with the test. */
export async function startCluster(t: Test): Promise<Cluster> {
  return run(t, (place) => {
    const options = ['-U', 'pawl', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C']
    program(place, 'initdb', ['-D', place.data, ...options])
  })
}

/** Starts a copy of a cluster that streams from it, under a name for `synchronous_standby_names`. */
export async function startStandby(t: Test, { port }: Cluster, name: string): Promise<Standby> {
  const from = `host=127.0.0.1 port=${port} user=pawl application_name=${name}`
  return run(t, (place) => {
    program(place, 'pg_basebackup', ['-D', place.data, '-d', from, '-R', '-X', 'stream', '-c', 'fast', '-N'])
  })
}

/** Where one is: its programs, its folder, and as whom it runs. */
interface Place {
  readonly bin: string
  readonly folder: string
  readonly data: string
  readonly user: { uid?: number; gid?: number }
}

function program({ bin, user, folder }: Place, name: string, args: readonly string[]): void {
  const done = spawnSync(join(bin, name), args, { ...user, cwd: folder, encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`${name} failed: ${done.stderr}`)
}

/** Makes its data and starts it. */
async function run(t: Test, make: (place: Place) => void): Promise<Standby> {
  const bin = binaries()
  if (bin === undefined) throw new Error('PostgreSQL is not installed')
  const folder = mkdtempSync(join(tmpdir(), 'pawl-cluster-'))
  const user = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  make({ bin, folder, data, user })
  const port = await freePort()
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, `unix_socket_directories=${folder}`]
  const options = [...settings, 'max_connections=200'].map((setting) => `-c ${setting}`).join(' ')
  const control = async (...args: string[]): Promise<void> => {
    const all = ['-D', data, '-w', '-t', '60', '-l', join(folder, 'log'), '-o', options, ...args]
    await promisify(execFile)(join(bin, 'pg_ctl'), all, { ...user, cwd: folder })
  }
  const guard = watch(user, bin, data, folder)
  t.teardown(async () => {
    const ended = once(guard, 'exit')
    guard.stdin?.end()
    await ended
  })
  await control('start')
  const url = (database: string): string => `postgres://pawl@127.0.0.1:${port}/${database}`
  const query: Cluster['query'] = async (text, database = 'postgres') => {
    const client = new pg.Client({ connectionString: url(database) })
    await client.connect()
    try {
      const { rows = [] } = await client.query(text)
      return rows
    } finally {
      await client.end()
    }
  }
  return {
    port,
    url,
    query,
    async create(database) {
      await query(`create database ${database}`)
      return url(database)
    },
    restart: (mode) => control('restart', '-m', mode),
    stop: (mode) => control('stop', '-m', mode),
    start: () => control('start'),
    promote: () => control('promote'),
    async kill() {
      const main = Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0])
      process.kill(main, 'SIGSTOP') // it makes no more, and hides none
      const all = [main, ...childrenOf(main)]
      for (const pid of all) process.kill(pid, 'SIGKILL')
      while (all.some(runs)) await new Promise((resolve) => setTimeout(resolve, 5))
    },
  }
}

/** Of a process that stands still: nobody's number can have become another's. */
function childrenOf(parent: number): number[] {
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))
  return all.filter((pid) => statusOf(pid)?.parent === parent)
}

/** One that is dead and not buried yet runs no more. */
function runs(pid: number): boolean {
  const state = statusOf(pid)?.state
  return state !== undefined && state !== 'Z' && state !== 'X'
}

function statusOf(pid: number): { state: string; parent: number } | undefined {
  try {
    const [state = '', parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return undefined // it ended
  }
}

/** Ends the cluster and its folder when its standard input closes, also because the test process was killed. */
function watch(user: object, bin: string, data: string, folder: string): ChildProcess {
  const script = 'cat > /dev/null; "$0" -D "$1" -m immediate stop > /dev/null 2>&1; cd /; rm -rf "$2"'
  const child = spawn('/bin/sh', ['-c', script, join(bin, 'pg_ctl'), data, folder], {
    ...user,
    cwd: folder,
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true, // what ends the whole group of the test must not end it first
  })
  child.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return child
}
