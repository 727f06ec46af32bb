import { sql } from 'kysely'
import { type Finding, ok, type Subject, warn } from './finding.ts'

const check = 'durability'
const loses = 'a token that was used may be unused again, and events are gone'

/** Whether PostgreSQL keeps what it acknowledged when it crashes, and when it fails over to a standby. */
export async function durability({ storage }: Subject): Promise<Finding[]> {
  if (storage?.dialect !== 'postgres') return []
  const { rows } = await sql<{ fsync: string; commit: string; names: string; standbys: number }>`
    select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit,
      current_setting('synchronous_standby_names') as names, (select count(*) from pg_stat_replication) as standbys`.execute(
    storage.db,
  )
  const [{ fsync, commit, names, standbys } = { fsync: '', commit: '', names: '', standbys: 0 }] = rows
  const findings: Finding[] = []
  if (fsync === 'off' || commit === 'off') {
    const which = fsync === 'off' ? 'fsync' : 'synchronous_commit'
    const found = `${which} is off: when PostgreSQL crashes, ${loses}`
    findings.push(warn(check, found, `set ${which} = on for this database`))
  }
  if (standbys > 0 && (names === '' || commit === 'local')) {
    const found = `no standby is synchronous, ${standbys} follow: when one is promoted, ${loses}`
    const advice =
      'set synchronous_standby_names (best "ANY 1 (a, b)", of two), and synchronous_commit = on: docs/replicas.md'
    findings.push(warn(check, found, advice))
  }
  if (findings.length > 0) return findings
  if (standbys === 0) return [ok(check, 'each commit is on the disk; no standby follows')]
  return [ok(check, `each commit is on the disk, and waits for standbys: ${names}`)]
}
