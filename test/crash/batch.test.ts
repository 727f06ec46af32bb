import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openStorage } from '../../src/storage/database.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-crash-batch-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

interface Run {
  readonly database: string
  /** How many statements it came to; undefined where it was killed. */
  readonly statements: number | undefined
  /** The machines that had their answer. */
  readonly answered: readonly string[]
}

let runs = 0

async function run(at: 'before' | 'after', n: number): Promise<Run> {
  runs += 1
  const database = join(folder, `${runs}.db`)
  const list = join(folder, `${runs}.txt`)
  const child = fork(join(import.meta.dirname, 'batch-child.ts'), [database, list, at, String(n)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  let statements: number | undefined
  child.once('message', (message) => {
    statements = Number(message)
  })
  const [, signal] = await once(child, 'exit')
  if (statements === undefined) t.equal(signal, 'SIGKILL')
  const answered = existsSync(list) ? readFileSync(list, 'utf8').trim().split('\n') : []
  return { database, statements, answered }
}

/** What each machine's redemption has left: all of these or none. */
async function check({ database, answered }: Run, what: string): Promise<number> {
  const storage = await openStorage(database)
  const rows = await storage.db
    .selectFrom('sessions')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .innerJoin('tokens', 'tokens.session', 'sessions.id')
    .where('tokens.kind', '=', 'stage2')
    .select(['nodes.name', 'sessions.id', 'sessions.state', 'tokens.consumed_at', 'tokens.answer'])
    .execute()
  const minted = await storage.db
    .selectFrom('tokens')
    .select('session')
    .where('kind', '=', 'stage3')
    .execute()
  const events = await listEvents(storage.db, { kind: 'stage2-redeemed', limit: 1000 })
  const marks = rows.map(({ id, state, consumed_at, answer }) => [
    state === 'stage2',
    consumed_at !== null,
    answer !== null,
    minted.some(({ session }) => session === id),
    events.filter(({ session }) => session === id).length === 1,
  ])
  t.equal(rows.length, 24)
  t.ok(
    marks.every((mark) => new Set(mark).size === 1),
    `${what}: no redemption is half there`,
  )
  const redeemed = rows.filter(({ consumed_at }) => consumed_at !== null).map(({ name }) => name)
  const lost = answered.filter((host) => host !== '' && !redeemed.includes(host))
  t.same(lost, [], `${what}: every redemption that was answered is there`)
  t.same((await verifyChains(storage.db)).faults, [], `${what}: every chain verifies`)
  await storage.close()
  return redeemed.length
}

t.test('killed in the middle of a batch, what was answered is there and nothing is half there', async (t) => {
  const whole = await run('before', 0)
  t.equal(await check(whole, 'not killed'), 24)
  t.equal(whole.answered.length, 24)
  const statements = whole.statements ?? 0
  t.ok(statements > 24 * 8, `${statements} statements`)
  const counts: number[] = []
  for (const part of [0.02, 0.3, 0.55, 0.8, 1]) {
    const n = Math.max(1, Math.floor(statements * part))
    const killed = await run('before', n)
    if (part < 1) t.equal(killed.statements, undefined, `killed before statement ${n}`)
    counts.push(await check(killed, `before statement ${n}`))
  }
  t.equal(counts[0], 0, 'the first batch was never committed')
})
