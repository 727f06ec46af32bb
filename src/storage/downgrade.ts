import { setTimeout as pause } from 'node:timers/promises'
import { type Kysely, sql } from 'kysely'
import { PawlError } from '../errors.ts'
import { isPostgresUrl, nameOf, openAsItIs, type Storage } from './database.ts'
import { appendEvent } from './events.ts'
import { appliedMigrations, migrateDown, refuseNewer } from './migrate.ts'
import { lookingName } from './postgres-session.ts'
import { ownTables } from './snapshot.ts'

/** What going back takes away. */
export interface DowngradePlan {
  /** The schema changes that are taken back, the last one first; none where the database is that old already. */
  readonly undone: readonly string[]
  /** Rows of tables that the older release does not have, or that it would misread. */
  readonly rows: readonly { readonly table: string; readonly count: number }[]
  /** Values in columns that the older release does not have. */
  readonly values: readonly { readonly table: string; readonly column: string; readonly count: number }[]
}

/** Shape and size of a database: by table how many rows, and by column how many of them have a value. */
type Shape = ReadonlyMap<string, { readonly rows: number; readonly columns: ReadonlyMap<string, number> }>

/** Ends the transaction of a preview. */
class Preview extends Error {}

/**
 * Takes the database at `location` back to the schema change `target`, in one transaction, or only says what that takes away.
 * Throws `conflict` while anything else has the database open: a running server would make rows that the older schema does
 * not have.
 */
export async function downgradeDatabase(
  location: string,
  target: string,
  options: { readonly apply: boolean; readonly release: string; readonly now: Date },
): Promise<DowngradePlan> {
  const storage = openAsItIs(location)
  try {
    const db = storage.db as unknown as Kysely<unknown>
    const applied = await appliedMigrations(db)
    refuseNewer(applied)
    if (!applied.includes(target)) {
      throw new PawlError('conflict', `the database is not as new as release ${options.release}`, {
        hint: applied.length === 0 ? 'it holds no Pawl data' : `its last schema change is ${applied.at(-1)}`,
      })
    }
    await refuseUsed(storage, location)
    let plan: DowngradePlan | undefined
    await storage
      .transaction(async (tx) => {
        plan = await goBack(tx as unknown as Kysely<unknown>, target)
        if (!options.apply) throw new Preview()
        if (plan.undone.length === 0) return
        const detail = { release: options.release, undone: plan.undone }
        await appendEvent(tx, {
          ...{ kind: 'database-downgraded', at: options.now, detail },
          ...{ node: null, session: null, source: null, actor: 'operator:downgrade' },
        })
      })
      .catch((error: unknown) => {
        if (!(error instanceof Preview)) throw error
      })
    if (plan === undefined) throw new PawlError('internal', 'the transaction did not run')
    return plan
  } finally {
    await storage.close()
  }
}

async function goBack(db: Kysely<unknown>, target: string): Promise<DowngradePlan> {
  const before = await shapeOf(db)
  const undone = await migrateDown(db, target)
  const after = await shapeOf(db)
  const rows: { table: string; count: number }[] = []
  const values: { table: string; column: string; count: number }[] = []
  for (const [table, { rows: had, columns }] of before) {
    const left = after.get(table)
    if (had > (left?.rows ?? 0)) rows.push({ table, count: had - (left?.rows ?? 0) })
    if (left === undefined) continue
    for (const [column, count] of columns)
      if (!left.columns.has(column) && count > 0) values.push({ table, column, count })
  }
  return { undone, rows, values }
}

async function shapeOf(db: Kysely<unknown>): Promise<Shape> {
  const own = await ownTables(db)
  const tables = (await db.introspection.getTables()).filter(({ name }) => own.includes(name))
  const shape = new Map<string, { rows: number; columns: Map<string, number> }>()
  for (const { name, columns } of tables) {
    const counted = columns.map(
      ({ name: column }) => sql`count(${sql.ref(column)}) as ${sql.ref(`n_${column}`)}`,
    )
    const { rows } = await sql<Record<string, number | string>>`
      select count(*) as n, ${sql.join(counted)} from ${sql.table(name)}`.execute(db)
    const [counts = {}] = rows
    shape.set(name, {
      rows: Number(counts.n),
      columns: new Map(columns.map(({ name: column }) => [column, Number(counts[`n_${column}`])])),
    })
  }
  return shape
}

/**
 * The last that a pooler in session mode asks of a session that nobody has any more (`server_reset_query`): it keeps it for a while. So it
 * does with one that it opened for who then had another: that one was asked nothing.
 */
const cleanedByPooler = 'DISCARD ALL'
/** Who has just gone, a server or ourselves a step before, is listed until PostgreSQL or a pooler has seen it: some three seconds. */
const [maxLooks, pauseMilliseconds] = [30, 100]

/** Throws `conflict` while another has it open. SQLite leaves its write-ahead log only when nobody else is there; PostgreSQL lists who is. */
export async function refuseUsed(storage: Storage, location: string): Promise<void> {
  const db = storage.db as unknown as Kysely<unknown>
  if (!isPostgresUrl(location)) {
    await sql`pragma busy_timeout = 0`.execute(db)
    const { rows } = await sql<{ journal_mode: string }>`pragma journal_mode = delete`
      .execute(db)
      .catch(() => ({ rows: [] }))
    await sql`pragma busy_timeout = 5000`.execute(db)
    if (rows[0]?.journal_mode !== 'delete') throw used(location, 'another process has it open')
    return
  }
  for (let looks = 1; ; looks += 1) {
    const others = await countOthers(db)
    if (others === 0) return
    if (looks === maxLooks) throw used(location, `${others} other connections are open`)
    await pause(pauseMilliseconds)
  }
}

async function countOthers(db: Kysely<unknown>): Promise<number> {
  const { rows } = await sql<{ n: number | string }>`
    select count(*) as n from pg_stat_activity where datname = current_database()
    and pid <> pg_backend_pid() and backend_type = 'client backend' and application_name <> ${lookingName}
    and not (state = 'idle' and query in (${cleanedByPooler}, ''))`.execute(db)
  return Number(rows[0]?.n ?? 0)
}

function used(location: string, fault: string): PawlError {
  return new PawlError('conflict', `database ${nameOf(location)} is in use: ${fault}`, {
    hint: 'stop every server on it first',
  })
}
