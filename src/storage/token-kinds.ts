import { type Kysely, sql } from 'kysely'

/**
 * Makes the list of token kinds that the database takes another one. SQLite cannot change a constraint: its table is made anew,
 * which nothing refers to. Tokens of kinds that are not in the list are removed: their sessions go on without.
 */
export async function allowTokenKinds(db: Kysely<unknown>, kinds: readonly string[]): Promise<void> {
  const list = sql.raw(kinds.map((kind) => `'${kind}'`).join(', ')) // constants of ours: letters, digits and hyphens
  await sql`delete from tokens where kind not in (${list})`.execute(db)
  if (db.getExecutor().adapter.supportsMultipleConnections === true) {
    await sql`alter table tokens drop constraint check_kind`.execute(db)
    await sql`alter table tokens add constraint check_kind check (kind in (${list}))`.execute(db)
    return
  }
  const { rows } = await sql<{
    sql: string
  }>`select sql from sqlite_master where type = 'table' and name = 'tokens'`.execute(db)
  const before = rows[0]?.sql ?? ''
  const written = kinds.map((kind) => `'${kind}'`).join(', ')
  const after = before
    .replace(/^create table "tokens"/i, 'create table "tokens_next"')
    .replace(/("kind" in \()[^)]*\)/, `$1${written})`)
  if (!after.includes(written)) throw new Error('the list of token kinds was not found in the schema')
  await sql.raw(after).execute(db)
  await sql`insert into tokens_next select * from tokens`.execute(db)
  await sql`drop table tokens`.execute(db)
  await sql`alter table tokens_next rename to tokens`.execute(db)
}
