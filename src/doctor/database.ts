import { statSync } from 'node:fs'
import { type Kysely, sql } from 'kysely'
import { isPostgresUrl, nameOf } from '../storage/database.ts'
import { listEvents, verifyChains } from '../storage/events.ts'
import { appliedMigrations, knownMigrations, refuseNewer } from '../storage/migrate.ts'
import { days, type Finding, fail, ok, type Subject, warn } from './finding.ts'

const maxWalBytes = 256 * 2 ** 20
const day = 86_400_000

/** Whether it is whole, and of this version. SQLite's pages were checked when it was opened. */
export async function database({ storage, config }: Subject): Promise<Finding[]> {
  if (storage === undefined) return [] // told already
  const db = storage.db as unknown as Kysely<unknown>
  const applied = await appliedMigrations(db)
  refuseNewer(applied)
  const name = nameOf(config.database)
  if (applied.length === 0) {
    return [fail('database', `${name} holds no Pawl data`, 'run pawl init, or restore the last backup')]
  }
  const missing = knownMigrations.filter((one) => !applied.includes(one))
  const findings = [
    missing.length === 0
      ? ok('database', `${name} answers, its schema is of this version`)
      : warn(
          'database',
          `${name} has the schema of an older Pawl (${missing.length} changes behind)`,
          'the server brings it up to date when it starts; make a backup before',
        ),
  ]
  if (isPostgresUrl(config.database)) return findings
  const { rows } = await sql`pragma foreign_key_check`.execute(db)
  if (rows.length > 0) {
    findings.push(
      fail(
        'database',
        `${rows.length} rows refer to rows that are not there`,
        'stop the server and restore the last backup',
      ),
    )
  }
  const wal = statSync(`${config.database}-wal`, { throwIfNoEntry: false })?.size ?? 0
  if (wal > maxWalBytes) {
    const found = `its write-ahead log has ${Math.round(wal / 2 ** 20)} MiB`
    findings.push(
      warn(
        'database',
        found,
        'something reads it without end: a backup to a slow pipe? It shrinks afterwards',
      ),
    )
  }
  return findings
}

/** The ends of every chain; with `--full` each event. */
export async function events({ storage, full, now }: Subject): Promise<Finding[]> {
  if (storage === undefined || (await tooOld(storage.db as unknown as Kysely<unknown>))) return []
  const advice =
    'somebody edited the database: keep a copy, and compare with a checkpoint kept elsewhere (pawl event verify)'
  if (full) {
    const { chains, events: many, faults } = await verifyChains(storage.db)
    const [first] = faults
    if (first === undefined) return [ok('events', `${many} in ${chains} chains, none edited or missing`)]
    return [fail('events', `chain ${first.chain}, event ${first.seq}: ${first.fault}`, advice)]
  }
  const broken = await storage.db
    .selectFrom('chains')
    .leftJoin('events', (join) =>
      join.onRef('events.chain', '=', 'chains.name').onRef('events.seq', '=', 'chains.head_seq'),
    )
    .select('chains.name')
    .whereRef('chains.head_seq', '>', 'chains.base_seq')
    .where((e) => e.or([e('events.hash', 'is', null), e('events.hash', '<>', e.ref('chains.head_hash'))]))
    .orderBy('chains.name')
    .execute()
  const [first] = broken
  if (first !== undefined)
    return [fail('events', `the last event of chain ${first.name} is not what it was`, advice)]
  const { count } = await storage.db
    .selectFrom('chains')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .executeTakeFirstOrThrow()
  const [newest] = await listEvents(storage.db, { limit: 1, newest: true })
  if (newest !== undefined && Date.parse(newest.at) > now.getTime() + 60_000) return [] // the clock's finding
  return [ok('events', `the ends of ${count} chains are in place (--full reads every event)`)]
}

/** How old the last backup is. */
export async function lastBackup({ storage, now }: Subject): Promise<Finding[]> {
  if (storage === undefined || (await tooOld(storage.db as unknown as Kysely<unknown>))) return []
  const advice = 'run pawl backup, every day by a timer, and keep the files elsewhere'
  const [last] = await listEvents(storage.db, { kind: 'backup-made', limit: 1, newest: true })
  if (last === undefined) return [warn('backup', 'none was ever made', advice)]
  const age = now.getTime() - Date.parse(last.at)
  if (age > 7 * day) return [warn('backup', `the last one is ${days(age)} old`, advice)]
  return [ok('backup', `the last one was made at ${last.at}`)]
}

async function tooOld(db: Kysely<unknown>): Promise<boolean> {
  return (await appliedMigrations(db)).length === 0
}
