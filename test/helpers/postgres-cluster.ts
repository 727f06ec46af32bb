import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
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
  /** Runs statements as the superuser, on a connection of its own. */
  query(text: string, database?: string): Promise<Record<string, unknown>[]>
}

function binaries(): string | undefined {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root) : []
  const newest = versions.sort((a, b) => Number(b) - Number(a))
  return newest.map((version) => join(root, version, 'bin')).find((bin) => existsSync(join(bin, 'pg_ctl')))
}

/** Starts one with durable commits, and ends it with the test. */
export async function startCluster(t: Test): Promise<Cluster> {
  const bin = binaries()
  if (bin === undefined) throw new Error('PostgreSQL is not installed')
  const folder = mkdtempSync(join(tmpdir(), 'pawl-cluster-'))
  const user = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const made = spawnSync(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'pawl', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C'],
    { ...user, cwd: folder, encoding: 'utf8' },
  )
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`)
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
