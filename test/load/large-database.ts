import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { times } from './measure.ts'
import { makeDataFolder, makeFleet, startPawl } from './pawl-side.ts'

export const largeNodes = 10_000
export const largeEvents = 1_000_000

/**
 * A data folder whose database has as many nodes and events as the targets name: one node was made and booted through the API, the
 * others are its rows again under other names. Their events are not chained, which nothing measured here looks at.
 */
export async function makeLargeDataFolder(): Promise<string> {
  const dataDir = await makeDataFolder()
  const pawl = await startPawl(dataDir)
  await makeFleet(pawl, 1)
  await pawl.stop()
  const database = new Sqlite(join(dataDir, 'pawl.db'))
  const nodes = times(largeNodes)
  const perNode = Math.ceil(largeEvents / largeNodes)
  database.pragma('foreign_keys = off')
  database.exec(`create temp table n as with recursive c(i) as (select 1 union all select i + 1 from c where i < ${nodes}) select i from c;
    create temp table e as with recursive c(j) as (select 1 union all select j + 1 from c where j < ${perNode}) select j from c`)
  const [node] = database.prepare("select * from nodes where name = 'bench0'").all() as Row[]
  const [chain] = database.prepare("select * from chains where name like '%bench0%'").all() as Row[]
  const [event] = database.prepare("select * from events where node = 'bench0'").all() as Row[]
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`
  repeat(database, 'nodes', node, 'n', {
    id: `'large' || i`,
    name: `'node' || i`,
    labels: `json_object('site', 's' || (i % 50))`,
    secret_id: 'null',
    secret_hash: 'null',
    session: 'null',
  })
  const chainOf = `replace(${text(String(chain?.name))}, 'bench0', 'node' || i)`
  repeat(database, 'chains', chain, 'n', { name: chainOf, head_seq: String(perNode) })
  repeat(database, 'events', event, 'n, e', {
    id: 'null',
    chain: chainOf,
    seq: 'j',
    node: `'node' || i`,
    hash: 'lower(hex(randomblob(32)))',
    prev_hash: 'lower(hex(randomblob(32)))',
    at: `strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || (i + j * 1000) || ' seconds')`,
  })
  database.close()
  return dataDir
}

type Row = Readonly<Record<string, unknown>>

/** A row of this table for each of `from`, as the given one but for what is given as SQL. */
function repeat(
  database: Sqlite.Database,
  table: string,
  row: Row | undefined,
  from: string,
  changes: Readonly<Record<string, string>>,
): void {
  if (row === undefined) throw new Error(`the database has no row of ${table} to go by`)
  const columns = Object.keys(row)
  const values = columns.map((name) => changes[name] ?? '?')
  const bound = columns.filter((name) => changes[name] === undefined).map((name) => row[name])
  database
    .prepare(`insert into ${table} (${columns.join(', ')}) select ${values.join(', ')} from ${from}`)
    .run(...bound)
}
