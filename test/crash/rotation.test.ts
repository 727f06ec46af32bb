import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { freshSecret } from '../../src/boot/rotate-secret.ts'
import type { EventKind } from '../../src/domain/event.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { initPawl } from '../../src/init.ts'
import { openStorage, type Storage } from '../../src/storage/database.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { insertSecret } from '../../src/storage/secrets.ts'
import { demoProfile, manifestOf, newNode } from '../helpers/fleet.ts'
import { freePort } from '../helpers/ports.ts'
import { bootRobot, send } from '../helpers/robot.ts'
import { until } from '../helpers/until.ts'
import type { CrashPoint } from './server-child.ts'

/** The transactions that a secret goes through: it is used (1), another is handed out (4), and said to be on the medium (5). */
const points: CrashPoint[] = [
  { at: 'before commit', n: 4 },
  ...[1, 4, 5].map((n) => ({ at: 'after commit' as const, n })),
  ...[16, 75].map((n) => ({ at: 'before statement' as const, n })),
]

const folder = mkdtempSync(join(tmpdir(), 'pawl-rotation-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const dataDir = join(folder, 'data')
const database = join(dataDir, 'pawl.db')

async function install(): Promise<{ ca: string; secret: string }> {
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  const secret = tokenFromRandom(new Uint8Array(33).fill(9))
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
      const issued = { id: secret.id, node: node.id, secret_hash: secret.hash, issued_at: at }
      await insertSecret(tx, { ...freshSecret, ...issued, issued_by: 'operator:test', kind: 'rotating' })
    }),
  )
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

t.test('a secret rotates at each boot, however the server is killed', async (t) => {
  const { ca, secret } = await install()
  const port = await freePort()
  const medium = { secret }
  const used = [secret]
  let refused = 0
  for (const point of points) {
    const name = `${point.at} ${point.n}`
    await forgetSessions()
    let child = await startChild(port, point)
    let crashes = 0
    const boot = (): Promise<unknown> =>
      bootRobot({
        port,
        ca,
        host: 'node1',
        get secret() {
          return medium.secret
        },
        onLost: async () => {
          if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
          crashes += 1
          child = await startChild(port)
        },
        write: (text) => {
          medium.secret = text
          used.push(text)
        },
      })
    const before = medium.secret
    await boot()
    t.equal(crashes, 1, `${name}: the server was killed`)
    t.not(medium.secret, before, `${name}: the medium has a new secret`)
    await boot()
    const old = await send({ port, ca }, 'GET', `/v1/boot/node1/stage1.ipxe?secret=${before}&serial=ROBOT`)
    t.equal(old.status, 403, `${name}: the old one opens nothing when the new one was used`)
    refused += 1
    // It is written behind the answer.
    await until(t, () => countOf('secret-reused-after-rotation'), refused)
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    await withStorage(async (storage) => {
      const node = await storage.db.selectFrom('nodes').selectAll().executeTakeFirstOrThrow()
      t.equal(node.state, 'ready', `${name}: the node is ready`)
      t.same((await verifyChains(storage.db)).faults, [], `${name}: every chain verifies`)
      const open = await storage.db
        .selectFrom('node_secrets')
        .select('id')
        .where('ended', 'is', null)
        .execute()
      t.equal(open.length, 2, `${name}: one secret is current, one waits to be used`)
    })
  }
  t.equal(await countOf('refused'), points.length, 'nothing but what came with an old one was refused')
  t.equal(
    await countOf('secret-rotated'),
    used.length - 2,
    'each was used once it was there, but for the last',
  )
  const files = ['pawl.db', 'pawl.db-wal']
    .map((file) => join(dataDir, file))
    .filter((file) => existsSync(file))
  const bytes = Buffer.concat(files.map((file) => readFileSync(file)))
  t.same(
    used.filter((text) => bytes.includes(text.slice(12))),
    [],
    'no secret is in the database',
  )
})

/** How many events of this kind there are. */
async function countOf(kind: EventKind): Promise<number> {
  let count = 0
  await withStorage(async ({ db }) => {
    count = (await listEvents(db, { node: 'node1', kind, limit: 1000 })).length
  })
  return count
}

/** The limit of stage 1s an hour is not what this is about. */
async function forgetSessions(): Promise<void> {
  await withStorage(async ({ db }) => {
    await db.updateTable('sessions').set({ started_at: '2000-01-01T00:00:00.000Z' }).execute()
  })
}

async function withStorage(work: (storage: Storage) => Promise<unknown>): Promise<void> {
  const storage = await openStorage(database)
  try {
    await work(storage)
  } finally {
    await storage.close()
  }
}
