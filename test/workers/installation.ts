/** A data folder with machines and images that have bytes, and `pawl server` on it as a process of its own, with workers. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { digestOf } from '../../src/domain/digest.ts'
import { manifestDigest, parseManifest } from '../../src/domain/image.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { initPawl } from '../../src/init.ts'
import { openStorage, type Storage } from '../../src/storage/database.ts'
import { insertImage } from '../../src/storage/images.ts'
import { demoProfile, manifestOf, newNode } from '../helpers/fleet.ts'

/** One line of the server's log. */
export type LogLine = Readonly<Record<string, unknown>>

/** A server that runs. */
export interface Server {
  readonly child: ChildProcess
  readonly port: number
  readonly ca: string
  readonly lines: LogLine[]
  /** Resolves with the first line that is so, from `since` on. */
  line(is: (line: LogLine) => boolean, since?: number): Promise<LogLine>
  /** The process ids of its workers. */
  workers(): number[]
  /** The process of one; undefined while it is started again. */
  workerOf(worker: number): number | undefined
  /** Kills one; one that ended just now is left to its end. */
  killWorker(worker: number): void
  /** Resolves with how it ended. */
  readonly ended: Promise<{ code: number | null; signal: string | null }>
}

/** A whole installation. */
export interface Installation {
  readonly folder: string
  /** By name: `node1` …, each with its enrolment secret. */
  readonly secrets: ReadonlyMap<string, string>
  /** Bytes of the kernel that stage 1 names. */
  readonly kernelBytes: number
  start(flags?: readonly string[]): Promise<Server>
  /** The same installation on another host: its own folder, the same keys, the same database. */
  replica(): Installation
  withStorage<T>(work: (storage: Storage) => Promise<T>): Promise<T>
}

const kernel = Buffer.alloc(64 * 2 ** 20, 7)

/** Makes one on a database; `undefined` is SQLite in its own folder. */
export async function install(t: Test, nodes: number, url?: string): Promise<Installation> {
  const top = mkdtempSync(join(tmpdir(), 'pawl-workers-'))
  t.teardown(() => rmSync(top, { recursive: true, force: true }))
  const folder = join(top, 'data')
  const database = url ?? join(folder, 'pawl.db')
  await initPawl({ dataDir: folder, database, publicUrl: undefined, names: [], now: new Date() })
  const shelf = join(folder, 'artifacts', 'sha256')
  mkdirSync(shelf, { recursive: true })
  writeFileSync(join(shelf, digestOf(kernel)), kernel)
  const secrets = new Map<string, string>()
  const storage = await openStorage(database)
  const at = new Date().toISOString()
  await storage.transaction(async (tx) => {
    await insertImage(tx, withKernel(manifestOf('small@1', 'a', at, false)))
    for (const ref of ['full@1', 'full@2']) await insertImage(tx, manifestOf(ref, 'b', at))
    const document = JSON.stringify(writeProfile(parseProfile({ ...demoProfile, acceptUnsigned: true })))
    const profile = { name: 'demo', document, revision: 1, created_at: at, updated_at: at }
    await tx.insertInto('profiles').values(profile).execute()
    for (let number = 1; number <= nodes; number += 1) {
      const secret = tokenFromRandom(new Uint8Array(33).fill(number))
      secrets.set(`node${number}`, secret.text)
      await tx
        .insertInto('nodes')
        .values(newNode(`node${number}`, secret, at))
        .execute()
    }
  })
  await storage.close()
  const withStorage: Installation['withStorage'] = async (work) => {
    const open = await openStorage(database)
    return work(open).finally(() => open.close())
  }
  const installationAt = (place: string): Installation => ({
    folder: place,
    secrets,
    kernelBytes: kernel.length,
    start: (flags = []) => start(t, place, database, flags),
    replica() {
      const copy = `${place}-copy`
      // With the modes of its folders, on which a server insists.
      if (spawnSync('cp', ['-a', place, copy]).status !== 0) throw new Error('cp failed')
      return installationAt(copy)
    },
    withStorage,
  })
  return installationAt(folder)
}

function withKernel(row: ReturnType<typeof manifestOf>): ReturnType<typeof manifestOf> {
  const { artifacts, ...rest } = JSON.parse(row.manifest) as { artifacts: Record<string, unknown>[] }
  const manifest = parseManifest({
    ...rest,
    artifacts: artifacts.map((one) =>
      one.role === 'kernel' ? { ...one, digest: digestOf(kernel), size: kernel.length } : one,
    ),
  })
  return { ...row, manifest: canonicalJson(manifest), digest: manifestDigest(manifest) }
}

/** As bin/pawl has them. */
const flagsOfNode = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=16']

/** Starts a server of two workers on a data folder. */
export async function start(
  t: Test,
  folder: string,
  database: string,
  flags: readonly string[],
): Promise<Server> {
  const main = join(import.meta.dirname, '../../src/main.ts')
  const usual = [
    '--boot-listen',
    '127.0.0.1:0',
    '--operator-listen',
    '127.0.0.1:0',
    '--workers',
    '2',
    '--idle-timeout-seconds',
    '600',
    '--log-level', // requests of machines that were served: which worker served them
    'debug',
  ]
  const args = [main, 'server', '--data', folder, '--database', database, ...usual, ...flags]
  const child = spawn(process.execPath, [...flagsOfNode, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.once('exit', (code, signal) => resolve({ code, signal })),
  )
  const lines: LogLine[] = []
  let wake: (() => void)[] = []
  createInterface({ input: child.stderr }).on('line', (text) => {
    // What ends a server before it has a log is a line of words.
    lines.push(text.startsWith('{') ? (JSON.parse(text) as LogLine) : { msg: text })
    const waiting = wake
    wake = []
    for (const go of waiting) go()
  })
  const [ready] = (await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    ended.then(() => Promise.reject(new Error(`it did not start: ${JSON.stringify(lines)}`))),
  ])) as [string]
  const workers = (): number[] =>
    readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number)
  const workerOf = (worker: number): number | undefined =>
    workers().find((id) => commandOf(id).includes(`worker\0${worker}\0`))
  return {
    child,
    ended,
    lines,
    workers,
    workerOf,
    killWorker(worker) {
      const id = workerOf(worker)
      try {
        if (id !== undefined) process.kill(id, 'SIGKILL')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    },
    port: Number(new URL((JSON.parse(ready) as { boot: string }).boot).port),
    ca: readFileSync(join(folder, 'ca.crt'), 'utf8'),
    async line(is, since = 0) {
      for (let at = since; ; at += 1) {
        while (at >= lines.length) await new Promise<void>((resolve) => wake.push(resolve))
        const line = lines[at]
        if (line !== undefined && is(line)) return line
      }
    },
  }
}

/** The command line of a process; empty where it is gone, and where only its parent's interest is left. */
export function commandOf(id: number): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
