import type { Queries, Storage, Tx } from './database.ts'
import { deleteObjects } from './fleet-files.ts'
import type { ChannelMoveRow, ChannelRow } from './image-tables.ts'
import { lastRevision } from './revisions.ts'
import { statement } from './statement.ts'

interface Named {
  readonly name: string
  readonly channel: string
}

const byName = statement<Named>()((db, value) =>
  db
    .selectFrom('channels')
    .selectAll()
    .where('name', '=', value('name'))
    .where('channel', '=', value('channel')),
)

/** Finds a channel. */
export function findChannel(db: Queries, { name, channel }: Named): Promise<ChannelRow | undefined> {
  return byName.first(db, { name, channel })
}

/** Finds a channel, made where there is none, and keeps other transactions from moving it until this one ends. */
export async function lockChannel(
  tx: Tx,
  dialect: Storage['dialect'],
  { name, channel }: Named,
  now: Date,
): Promise<ChannelRow> {
  if ((await findChannel(tx, { name, channel })) === undefined) {
    const revision = (await lastRevision(tx, 'channel', `${name}/${channel}`)) + 1
    await tx
      .insertInto('channels')
      .values({
        ...{ name, channel, version: null, two_person: 0, require_test: 0 },
        ...{ updated_at: now.toISOString(), revision },
      })
      .onConflict((c) => c.doNothing())
      .execute()
  }
  const query = tx.selectFrom('channels').selectAll().where('name', '=', name).where('channel', '=', channel)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirstOrThrow()
}

/** Every channel, by name. */
export function listChannels(db: Queries): Promise<ChannelRow[]> {
  return db.selectFrom('channels').selectAll().orderBy('name').orderBy('channel').execute()
}

/** Changes columns of a channel, which is a revision of it. */
export async function updateChannel(
  tx: Tx,
  { name, channel }: Named,
  changes: Partial<Omit<ChannelRow, 'name' | 'channel' | 'revision'>>,
): Promise<void> {
  await tx
    .updateTable('channels')
    .set((e) => ({ ...changes, revision: e('revision', '+', 1) }))
    .where('name', '=', name)
    .where('channel', '=', channel)
    .execute()
}

/** A channel's moves, the latest first. */
export function listMoves(db: Queries, { name, channel }: Named, limit: number): Promise<ChannelMoveRow[]> {
  return db
    .selectFrom('channel_moves')
    .selectAll()
    .where('name', '=', name)
    .where('channel', '=', channel)
    .orderBy('seq', 'desc')
    .limit(limit)
    .execute()
}

/** The move that last brought a channel to `version` other than by rolling back. */
export function findArrival(
  db: Queries,
  { name, channel }: Named,
  version: string,
): Promise<ChannelMoveRow | undefined> {
  return db
    .selectFrom('channel_moves')
    .selectAll()
    .where('name', '=', name)
    .where('channel', '=', channel)
    .where('version', '=', version)
    .where('how', '<>', 'rollback')
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Whether a channel points at a version, has pointed at it, or rolls it out. */
export async function hasServed(db: Queries, { name, channel }: Named, version: string): Promise<boolean> {
  for (const table of ['channel_moves', 'rollouts'] as const) {
    const found = await db
      .selectFrom(table)
      .select('version')
      .where('name', '=', name)
      .where('channel', '=', channel)
      .where('version', '=', version)
      .limit(1)
      .executeTakeFirst()
    if (found !== undefined) return true
  }
  return false
}

/** Moves a channel that the transaction has locked, and writes the move down. */
export async function moveChannel(tx: Tx, move: Omit<ChannelMoveRow, 'seq'>): Promise<void> {
  const [last] = await listMoves(tx, move, 1)
  await tx
    .insertInto('channel_moves')
    .values({ ...move, seq: (last?.seq ?? 0) + 1 })
    .execute()
  await updateChannel(tx, move, {
    version: move.version,
    updated_at: move.moved_at,
  })
}

/** Removes a channel with its moves and rollouts; images that only its history kept can be pruned then. */
export async function deleteChannel(tx: Tx, { name, channel }: Named): Promise<void> {
  for (const table of ['rollouts', 'channel_moves'] as const) {
    await tx.deleteFrom(table).where('name', '=', name).where('channel', '=', channel).execute()
  }
  await deleteObjects(tx, 'channel', [`${name}/${channel}`])
  await tx.deleteFrom('channels').where('name', '=', name).where('channel', '=', channel).execute()
}
