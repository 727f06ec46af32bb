import { insertNodes } from '../../src/storage/node-batch.ts'
import type { NodeRow, SessionRow } from '../../src/storage/tables.ts'
import type { World } from '../helpers/world.ts'

const sites = ['fra1', 'lga2', 'syd3']

/** Stores so many nodes, most of them ready, some booting or failed, in racks of forty. */
export async function storeManyNodes(world: World, count: number): Promise<void> {
  const at = world.clock.now().toISOString()
  const rows = Array.from({ length: count }, (_, n) => rowOf(n, at))
  const sessions = rows.filter(({ session }) => session !== null).map((row) => sessionOf(row, at))
  await world.context.storage.transaction(async (tx) => {
    await insertNodes(tx, rows)
    for (let n = 0; n < sessions.length; n += 50)
      await tx
        .insertInto('sessions')
        .values(sessions.slice(n, n + 50))
        .execute()
  })
}

function rowOf(n: number, at: string): NodeRow {
  const spread = (n * 7919) % 100
  const state = spread < 80 ? 'ready' : spread < 92 ? 'booting' : spread < 96 ? 'failed' : 'registered'
  return {
    id: `many-${n}`,
    name: `rack${String(Math.floor(n / 40)).padStart(3, '0')}-node${String(n % 40).padStart(2, '0')}`,
    profile: 'demo',
    state,
    failure_cause: state === 'failed' ? 'reported' : null,
    uuid: null,
    serial: null,
    labels: JSON.stringify({ site: sites[n % 3], rack: String(Math.floor(n / 40)) }),
    reinstall: 'none',
    reinstall_attempts: 0,
    reinstall_session: null,
    armed: 0,
    ...{ looping_since: null, held_back_until: null, boots_counted_from: null, wireguard_public_key: null },
    secret_id: null,
    secret_hash: null,
    last_facts: null,
    session: state === 'registered' ? null : `many-session-${n}`,
    created_at: at,
    updated_at: at,
    revision: 1,
  }
}

function sessionOf({ id, session, state }: NodeRow, at: string): SessionRow {
  const ended = state === 'booting' ? null : at
  return {
    id: session ?? '',
    node: id,
    sequence: 'boot',
    tokens: 'native',
    local: 0,
    state: state === 'booting' ? 'stage2' : state === 'failed' ? 'failed' : 'ready',
    stage: state === 'booting' ? 'stage2' : 'report',
    cause: null,
    pinned: JSON.stringify({ profile: 'demo', evidence: ['secret'] }),
    facts: '{}',
    source: '192.0.2.1',
    started_at: at,
    last_seen_at: at,
    expires_at: at,
    ended_at: ended,
  }
}
