import type { Test } from 'tap'
import { verifyChains } from '../../src/storage/events.ts'
import { withStorage } from '../backup/helpers.ts'
import type { Machines } from './machines.ts'
import type { Replica } from './replicas.ts'

/** What must hold behind every interruption: servers still run, and the database has each acknowledged boot once. */
export async function checkAftermath(
  t: Test,
  machines: Machines,
  replicas: readonly Replica[],
  database: string,
): Promise<void> {
  t.same(machines.faults, [])
  t.equal(new Set(machines.ready).size, machines.ready.length, 'each boot is a session of its own')
  for (const { child, log, name } of replicas) {
    t.equal(child().exitCode, null, `${name} still runs`)
    t.notMatch(log(), /stopping after an error|unhandled/i, name)
  }
  await withStorage(database, async ({ db }) => {
    const sessions = await db.selectFrom('sessions').select(['id', 'state']).execute()
    const states = new Map(sessions.map(({ id, state }) => [id, state]))
    t.same(
      new Set(machines.ready.map((id) => states.get(id))),
      new Set(['ready']),
      'nothing acknowledged is lost',
    )
    const twice = await db
      .selectFrom('events')
      .select(['session', 'kind'])
      .where('kind', 'in', ['session-ready', 'session-opened'])
      .groupBy(['session', 'kind'])
      .having((e) => e.fn.countAll(), '>', 1)
      .execute()
    t.same(twice, [], 'nothing happened twice')
    t.same((await verifyChains(db)).faults, [], 'every event chain verifies')
  })
}
