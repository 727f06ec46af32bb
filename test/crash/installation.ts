import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { initPawl } from '../../src/init.ts'
import { openStorage, type Storage, type Tx } from '../../src/storage/database.ts'
import { demoProfile, manifestOf, newNode } from '../helpers/fleet.ts'
import type { CrashPoint } from './server-child.ts'

/** A data folder with an installation and `node1`, and servers on it that are killed. */
export interface Installation {
  readonly ca: string
  readonly dataDir: string
  /** The enrolment secret of `node1`. */
  readonly secret: string
  /** Starts a server. It ends with the tests, without a warning. */
  startChild(port: number): Promise<ChildProcess>
  /** From now on it counts, and ends at this point without a warning. */
  arm(child: ChildProcess, point: CrashPoint): Promise<void>
  withStorage(work: (storage: Storage) => Promise<unknown>): Promise<void>
  /** The limit of stage 1s an hour is not what such a test is about. */
  forgetSessions(): Promise<void>
  /** All bytes of the database, what it deleted among them. */
  bytes(): Buffer
}

/** Makes one, as `pawl init` and operators would leave it; it is gone when the tests end. */
export async function install(
  t: Test,
  finish: (tx: Tx, node: ReturnType<typeof newNode>, at: string) => Promise<void> = async () => {},
): Promise<Installation> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-crash-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  const database = join(dataDir, 'pawl.db')
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  const secret = tokenFromRandom(new Uint8Array(33).fill(9))
  const withStorage: Installation['withStorage'] = async (work) => {
    const storage = await openStorage(database)
    try {
      await work(storage)
    } finally {
      await storage.close()
    }
  }
  const at = new Date().toISOString()
  await withStorage((storage) =>
    storage.transaction(async (tx) => {
      for (const ref of ['small@1', 'full@1', 'full@2'])
        await tx
          .insertInto('images')
          .values(manifestOf(ref, 'a', at))
          .execute()
      const document = JSON.stringify(writeProfile(parseProfile({ ...demoProfile, acceptUnsigned: true })))
      const profile = { name: 'demo', document, revision: 1, created_at: at, updated_at: at }
      await tx.insertInto('profiles').values(profile).execute()
      const node = newNode('node1', secret, at)
      await tx.insertInto('nodes').values(node).execute()
      await finish(tx, node, at)
    }),
  )
  return {
    ca: readFileSync(join(dataDir, 'ca.crt'), 'utf8'),
    dataDir,
    secret: secret.text,
    startChild: (port) => startChild(t, dataDir, port),
    arm,
    withStorage,
    forgetSessions: () =>
      withStorage(({ db }) =>
        db.updateTable('sessions').set({ started_at: '2000-01-01T00:00:00.000Z' }).execute(),
      ),
    bytes: () => {
      const files = [database, `${database}-wal`].filter((file) => existsSync(file))
      return Buffer.concat(files.map((file) => readFileSync(file)))
    },
  }
}

async function startChild(t: Test, dataDir: string, port: number): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, 'server-child.ts'), [dataDir, String(port)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  t.teardown(() => end(child))
  await answerOf(child)
  return child
}

async function arm(child: ChildProcess, point: CrashPoint): Promise<void> {
  child.send(point)
  await answerOf(child)
}

async function answerOf(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit').then(([code]) =>
    Promise.reject(new Error(`the server ended with ${code}`)),
  )
  ended.catch(() => undefined)
  await Promise.race([once(child, 'message'), ended])
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
