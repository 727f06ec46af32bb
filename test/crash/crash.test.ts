import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { initPawl } from '../../src/init.ts'
import { openStorage, type Storage } from '../../src/storage/database.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { demoProfile, manifestOf, newNode } from '../helpers/fleet.ts'
import { freePort } from '../helpers/ports.ts'
import { bootRobot } from '../helpers/robot.ts'
import type { CrashPoint } from './server-child.ts'

/** A whole boot is six transactions; each is cut before and after its commit, and in its middle. */
const points: CrashPoint[] = [
  ...[1, 2, 3, 4, 5, 6].map((n) => ({ at: 'before commit' as const, n })),
  ...[1, 2, 3, 4, 5, 6].map((n) => ({ at: 'after commit' as const, n })),
  ...[3, 12, 20, 31, 45, 60, 75, 90].map((n) => ({ at: 'before statement' as const, n })),
]

const folder = mkdtempSync(join(tmpdir(), 'pawl-crash-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const dataDir = join(folder, 'data')
const database = join(dataDir, 'pawl.db')

/** A data folder with an installation and a node, as `pawl init` and operators would leave it. */
async function install(): Promise<{ ca: string; secret: string }> {
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  const secret = tokenFromRandom(new Uint8Array(33).fill(9))
  const storage = await openStorage(database)
  const at = new Date().toISOString()
  await storage.transaction(async (tx) => {
    for (const ref of ['small@1', 'full@1', 'full@2'])
      await tx
        .insertInto('images')
        .values(manifestOf(ref, 'a', at))
        .execute()
    const document = JSON.stringify(writeProfile(parseProfile({ ...demoProfile, acceptUnsigned: true })))
    await tx
      .insertInto('profiles')
      .values({ name: 'demo', document, revision: 1, created_at: at, updated_at: at })
      .execute()
    await tx
      .insertInto('nodes')
      .values(newNode('node1', secret, at))
      .execute()
  })
  await storage.close()
  return { ca: readFileSync(join(dataDir, 'ca.crt'), 'utf8'), secret: secret.text }
}

async function startChild(port: number, point?: CrashPoint): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, 'server-child.ts'), [dataDir, String(port)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit').then(([code]) =>
    Promise.reject(new Error(`the server ended with ${code}`)),
  )
  ended.catch(() => undefined)
  await Promise.race([once(child, 'message'), ended])
  if (point !== undefined) {
    child.send(point)
    await Promise.race([once(child, 'message'), ended])
  }
  return child
}

t.test('killed at each step, the boot completes or begins again', async (t) => {
  const { ca, secret } = await install()
  const port = await freePort()
  const secrets = [secret]
  for (const point of points) {
    const name = `${point.at} ${point.n}`
    await forgetSessions()
    let child = await startChild(port, point)
    let crashes = 0
    const result = await bootRobot({
      port,
      ca,
      host: 'node1',
      secret,
      onLost: async () => {
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
        crashes += 1
        child = await startChild(port)
      },
    })
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    secrets.push(...result.tokens)
    t.equal(crashes, 1, `${name}: the server was killed`)
    t.ok(result.stage1s <= 2, `${name}: at most one return to stage 1`)
    await withStorage(async (storage) => {
      const node = await storage.db.selectFrom('nodes').selectAll().executeTakeFirstOrThrow()
      t.equal(node.state, 'ready', `${name}: the node is ready`)
      t.same((await verifyChains(storage.db)).faults, [], `${name}: every chain verifies`)
      const live = await storage.db
        .selectFrom('sessions')
        .select('id')
        .where('ended_at', 'is', null)
        .execute()
      t.same(live, [], `${name}: no session is left open`)
      const events = await listEvents(storage.db, { node: 'node1', limit: 10_000 })
      const redeemed = events.filter((e) => e.kind.endsWith('-redeemed')).map((e) => `${e.session} ${e.kind}`)
      t.equal(new Set(redeemed).size, redeemed.length, `${name}: no token was used twice`)
    })
  }
  t.ok(secrets.length > 6 * points.length, `${secrets.length} tokens were handed out`)
  const files = ['pawl.db', 'pawl.db-wal']
    .map((file) => join(dataDir, file))
    .filter((file) => existsSync(file))
  const bytes = Buffer.concat(files.map((file) => readFileSync(file)))
  t.same(
    secrets.filter((token) => bytes.includes(token.slice(12))),
    [],
    'none of them is in the database, not even in what it deleted',
  )
})

/** The limit of stage 1s an hour is not what this is about. */
async function forgetSessions(): Promise<void> {
  await withStorage(async ({ db }) => {
    await db.updateTable('sessions').set({ started_at: '2000-01-01T00:00:00.000Z' }).execute()
  })
}

async function withStorage(work: (storage: Storage) => Promise<void>): Promise<void> {
  const storage = await openStorage(database)
  try {
    await work(storage)
  } finally {
    await storage.close()
  }
}
