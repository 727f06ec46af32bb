import { chainEvent, chainOf, type EventFacts, genesisHash } from '../domain/event.ts'
import { inChunks } from './chunks.ts'
import { holdPlace } from './commit-order.ts'
import type { Storage, Tx } from './database.ts'
import { eventRow } from './events.ts'

/** The end of a chain, as events are put behind it. */
interface Head {
  readonly seq: number
  readonly hash: string
}

/**
 * Appends many events, in order, as `appendEvent` does one by one: the same rows, in a few statements instead of four for
 * each. Ten thousand nodes in one transaction would otherwise hold SQLite's only writer for seconds.
 */
export async function appendEvents(
  tx: Tx,
  dialect: Storage['dialect'],
  facts: readonly EventFacts[],
): Promise<void> {
  if (facts.length === 0) return
  await holdPlace(tx)
  const heads = await lockHeads(tx, dialect, [...new Set(facts.map(chainOf))].sort())
  const rows = facts.map((one) => {
    const chain = chainOf(one)
    const event = chainEvent(one, chain, heads.get(chain) ?? { seq: 0, hash: genesisHash }) // all were locked above
    heads.set(chain, event)
    return eventRow(event)
  })
  for (const some of inChunks(rows, 11)) await tx.insertInto('events').values(some).execute()
  const moved = [...heads].map(([name, { seq, hash }]) => ({
    ...{ name, base_seq: 0, base_hash: genesisHash },
    ...{ head_seq: seq, head_hash: hash },
  }))
  for (const some of inChunks(moved, 5)) {
    await tx
      .insertInto('chains')
      .values(some)
      .onConflict((c) =>
        c.column('name').doUpdateSet((e) => ({
          head_seq: e.ref('excluded.head_seq'),
          head_hash: e.ref('excluded.head_hash'),
        })),
      )
      .execute()
  }
}

/** Makes the chains that are new and locks all of them, so that no other process takes their next numbers. */
async function lockHeads(
  tx: Tx,
  dialect: Storage['dialect'],
  names: readonly string[],
): Promise<Map<string, Head>> {
  const heads = new Map<string, Head>()
  for (const some of inChunks(names, 5)) {
    await tx
      .insertInto('chains')
      .values(
        some.map((name) => ({
          ...{ name, base_seq: 0, base_hash: genesisHash },
          ...{ head_seq: 0, head_hash: genesisHash },
        })),
      )
      .onConflict((c) => c.doNothing())
      .execute()
    const query = tx
      .selectFrom('chains')
      .select(['name', 'head_seq', 'head_hash'])
      .where('name', 'in', some)
      .orderBy('name')
    const rows = await (dialect === 'postgres' ? query.forUpdate() : query).execute()
    for (const row of rows) heads.set(row.name, { seq: row.head_seq, hash: row.head_hash })
  }
  return heads
}
