import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openStorage, type Storage } from '../../src/storage/database.ts'
import { appendEvent, listEvents, verifyChains } from '../../src/storage/events.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-crash-audit-'))
mkdirSync(join(folder, 'pki'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** Three chains of old events, more than one batch of them, and one of new ones. */
async function prepare(database: string): Promise<void> {
  const storage = await openStorage(database)
  await storage.transaction(async (tx) => {
    for (const [node, count, at] of [
      ['a', 150, '2026-01-01'],
      ['b', 20, '2026-01-01'],
      ['c', 5, '2026-11-20'],
    ] as const) {
      for (let n = 0; n < count; n++) {
        await appendEvent(tx, {
          ...{ kind: 'refused', at: new Date(at), node, session: null },
          ...{ actor: 'node', source: null, detail: {} },
        })
      }
    }
  })
  await storage.close()
}

/** Runs the child; how many statements it came to, or undefined where it was killed. */
async function run(database: string, n: number): Promise<number | undefined> {
  const child = fork(join(import.meta.dirname, 'audit-child.ts'), [database, folder, String(n)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  let statements: number | undefined
  child.once('message', (message) => {
    statements = Number(message)
  })
  const [, signal] = await once(child, 'exit')
  if (statements === undefined) t.equal(signal, 'SIGKILL')
  return statements
}

async function check(storage: Storage, what: string): Promise<void> {
  t.same((await verifyChains(storage.db)).faults, [], `${what}: every chain verifies`)
  const chains = await storage.db.selectFrom('chains').selectAll().execute()
  const events = await listEvents(storage.db, { limit: 10_000 })
  const told = events
    .filter(({ kind }) => kind === 'events-trimmed')
    .map(({ detail }) => JSON.parse(detail).events)
  const gone = chains.reduce((sum, chain) => sum + chain.base_seq, 0)
  t.equal(
    told.reduce((sum: number, count: number) => sum + count, 0),
    gone,
    `${what}: all that went is on record`,
  )
  const checkpoints = await storage.db.selectFrom('checkpoints').selectAll().orderBy('seq').execute()
  const signed = events
    .filter(({ kind }) => kind === 'checkpoint-signed')
    .map(({ detail }) => JSON.parse(detail).seq)
  t.same(
    checkpoints.map(({ seq }) => seq),
    signed,
    `${what}: each checkpoint is on record`,
  )
}

t.test('killed at any step of signing and removing, nothing is lost and the next run goes on', async (t) => {
  const whole = join(folder, 'whole.db')
  await prepare(whole)
  const statements = (await run(whole, 0)) ?? 0
  t.ok(statements > 20, `${statements} statements`)
  for (let n = 1; n <= statements; n += Math.ceil(statements / 14)) {
    const database = join(folder, `${n}.db`)
    await prepare(database)
    t.equal(await run(database, n), undefined, `killed before statement ${n}`)
    const storage = await openStorage(database)
    await check(storage, `statement ${n}`)
    await storage.close()
    t.type(await run(database, 0), 'number')
    const after = await openStorage(database)
    await check(after, `statement ${n}, and the run after`)
    const left = await listEvents(after.db, { limit: 10_000 })
    t.same(
      left.filter(({ kind }) => kind === 'refused').map(({ node }) => node),
      ['c', 'c', 'c', 'c', 'c'],
    )
    await after.close()
  }
})
