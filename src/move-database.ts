import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Kysely, sql } from 'kysely'
import { retiredContext } from './backup/retire.ts'
import type { Config } from './config.ts'
import { parsePostgresUrl } from './domain/postgres-url.ts'
import { PawlError } from './errors.ts'
import { makeCheckpoint } from './fleet/checkpoints.ts'
import { openCheckpointSigner } from './pki/checkpoint-key.ts'
import { checkDataFolder } from './pki/data-folder.ts'
import { findPublicFile } from './pki/key-file.ts'
import { isPostgresUrl, nameOf, openAsItIs, type Storage } from './storage/database.ts'
import { refuseUsed } from './storage/downgrade.ts'
import { appendEvent, verifyChains } from './storage/events.ts'
import { importRows, type RowBatch } from './storage/import-rows.ts'
import { knownMigrations } from './storage/migrate.ts'
import { openSnapshot, type Row, type Snapshot } from './storage/snapshot.ts'

/** What is moved, and where to. */
export interface MoveOptions {
  readonly config: Config
  /** `postgres://…`, of an empty database. */
  readonly to: string
  readonly now: Date
  /** Called behind each step; what it throws ends the move. */
  readonly faults?: (step: MoveStep) => void
}

/** The steps of a move, in order. */
export const moveSteps = ['held', 'filled', 'verified', 'signed'] as const
export type MoveStep = (typeof moveSteps)[number]

/** What was moved. */
export interface Moved {
  readonly from: string
  /** Without its password. */
  readonly to: string
  readonly tables: number
  readonly rows: number
  readonly chains: number
  readonly events: number
  /** The number of the checkpoint that signs where every chain was then. */
  readonly checkpoint: number
}

/** What processes tell of themselves while they run: of those that are stopped it says nothing. */
const notMoved: ReadonlySet<string> = new Set(['processes'])

/** Counts, and sums that say whether the same rows are there, in whatever order. */
type Sums = ReadonlyMap<string, { rows: number; sum: bigint }>

/**
 * Moves an installation from SQLite to PostgreSQL: the database alone, the data folder stays. The file is held while it is
 * read, so that no server starts on it, and is not changed. All rows come in one transaction; each is read back and compared
 * with what was sent, every event chain is verified, and a checkpoint signs what is there. Killed before the transaction ended, it
 * begins anew into the same database; killed after, that database is no longer empty, and refused.
 */
export async function moveDatabase(options: MoveOptions): Promise<Moved> {
  const { config, to, faults } = options
  checkDataFolder(config.dataDir)
  refuseKinds(config, to)
  const held = openAsItIs(config.database)
  try {
    await refuseUsed(held, config.database)
    // Nobody else can write from here on, and a server that is started says that the file is locked.
    await sql`begin immediate`.execute(held.db)
    faults?.('held')
    const sequences = await sequencesOf(held)
    const snapshot = await openSnapshot(config.database)
    try {
      refuseOlder(snapshot)
      const sent = new Map<string, { rows: number; sum: bigint }>()
      let moved: Moved | undefined
      await importRows(to, snapshot.migrations, batchesOf(snapshot, sent), async (storage) => {
        faults?.('filled')
        await continueBehind(storage, sequences)
        const checked = await verify(storage, to, sent)
        faults?.('verified')
        const checkpoint = await sign(storage, options, checked)
        faults?.('signed')
        moved = { from: config.database, to: nameOf(to), ...checked, checkpoint }
      })
      if (moved === undefined) throw new PawlError('internal', 'the database was filled, but not verified')
      return moved
    } finally {
      await snapshot.close()
    }
  } finally {
    await sql`rollback`.execute(held.db).catch(() => {}) // it may not have begun
    await held.close()
  }
}

function refuseKinds({ database }: Config, to: string): void {
  if (parsePostgresUrl(to) === undefined) {
    throw new PawlError('usage', 'a database is moved to PostgreSQL: --to is a postgres:// URL', {
      hint: 'like --to postgres://pawl@db.example.com/pawl; the password may be in PGPASSWORD or ~/.pgpass',
    })
  }
  if (!isPostgresUrl(database)) {
    if (existsSync(database)) return
    throw new PawlError('not-found', `there is no database ${database}`, {
      hint: 'name the data folder with --data',
    })
  }
  throw new PawlError('usage', `the installation is on PostgreSQL already: ${nameOf(database)}`, {
    hint: 'between PostgreSQL servers pg_dump and pg_restore move it',
  })
}

function refuseOlder({ migrations }: Snapshot): void {
  if (migrations.join() === knownMigrations.join()) return
  throw new PawlError('conflict', 'the database has the schema of an older Pawl', {
    hint: 'start and stop the server of this version on it once, behind a backup; then move it',
  })
}

async function* batchesOf(
  snapshot: Snapshot,
  sums: Map<string, { rows: number; sum: bigint }>,
): AsyncIterable<RowBatch> {
  for (const table of snapshot.tables) {
    if (notMoved.has(table)) continue
    sums.set(table, { rows: 0, sum: 0n })
    for await (const rows of snapshot.rows(table)) {
      add(sums, table, rows)
      yield { table, rows }
    }
  }
}

function add(sums: Map<string, { rows: number; sum: bigint }>, table: string, rows: readonly Row[]): void {
  const so = sums.get(table) ?? { rows: 0, sum: 0n }
  let { sum } = so
  for (const row of rows) {
    const text = JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)))
    sum = (sum + createHash('sha256').update(text).digest().readBigUInt64BE()) % 2n ** 64n
  }
  sums.set(table, { rows: so.rows + rows.length, sum })
}

/** Reads back what PostgreSQL has, and throws `digest-mismatch` where it is not what was sent. */
async function verify(
  { db }: Storage,
  to: string,
  sent: Sums,
): Promise<Pick<Moved, 'tables' | 'rows' | 'chains' | 'events'>> {
  const found = new Map<string, { rows: number; sum: bigint }>()
  const snapshot = await openSnapshot(to)
  try {
    for (const table of sent.keys()) {
      add(found, table, [])
      for await (const rows of snapshot.rows(table)) add(found, table, rows)
    }
  } finally {
    await snapshot.close()
  }
  for (const [table, { rows, sum }] of sent) {
    const there = found.get(table)
    if (there?.rows === rows && there.sum === sum) continue
    throw new PawlError(
      'digest-mismatch',
      `table ${table} was not moved as it is: ${there?.rows} of ${rows} rows`,
      {
        hint: 'nothing is lost: the old database is as it was. Make a new database, with encoding UTF8, and try again',
      },
    )
  }
  const { chains, events, faults } = await verifyChains(db)
  const [fault] = faults
  if (fault !== undefined) {
    throw new PawlError('conflict', `chain ${fault.chain}, event ${fault.seq}: ${fault.fault}`, {
      hint: 'the event log was edited before the move: pawl event verify says the same of the old database',
    })
  }
  const rows = [...sent.values()].reduce((total, one) => total + one.rows, 0)
  return { tables: sent.size, rows, chains, events }
}

/** Numbers that SQLite has given once are not given again, also where their rows are gone. */
async function sequencesOf({ db }: Storage): Promise<readonly { name: string; seq: number }[]> {
  const { rows } = await sql<{ name: string; seq: number }>`select name, seq from sqlite_sequence`.execute(db)
  return rows
}

async function continueBehind(
  { db }: Storage,
  sequences: readonly { name: string; seq: number }[],
): Promise<void> {
  const { rows } = await sql<{ table: string; column: string }>`
    select table_name as "table", column_name as "column" from information_schema.columns
    where table_schema = current_schema() and is_identity = 'YES'`.execute(db as unknown as Kysely<unknown>)
  for (const { table, column } of rows) {
    const seq = sequences.find(({ name }) => name === table)?.seq ?? 0
    await sql`select setval(pg_get_serial_sequence(${table}, ${column}),
      greatest(${seq + 1}, (select coalesce(max(${sql.ref(column)}), 0) + 1 from ${sql.table(table)})), false)`.execute(
      db,
    )
  }
}

/** The move is an event, and the checkpoint behind it is signed only where every chain goes on from the last one. */
async function sign(
  storage: Storage,
  { config, now }: MoveOptions,
  { rows, events }: Pick<Moved, 'rows' | 'events'>,
): Promise<number> {
  const actor = 'operator:move'
  await storage.transaction((tx) =>
    appendEvent(tx, {
      ...{ kind: 'database-moved', at: now, detail: { rows, events } },
      ...{ node: null, session: null, source: null, actor },
    }),
  )
  const root = findPublicFile(join(config.dataDir, 'ca.crt')) ?? ''
  const context = { ...retiredContext(storage, { config, now }), rootCertificate: () => root }
  const { seq } = await makeCheckpoint(context, openCheckpointSigner(config.dataDir), {
    ...{ actor, source: null, role: 'admin' },
  })
  return seq
}
