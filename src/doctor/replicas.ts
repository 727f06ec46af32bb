import { addSeconds } from '../domain/clock.ts'
import { goneSeconds } from '../fleet/processes.ts'
import { differingMarks, graveMarks, type Marks, readMarks } from '../replica-marks.ts'
import { appliedMigrations, knownMigrations } from '../storage/migrate.ts'
import { listServers } from '../storage/processes.ts'
import { type Finding, fail, ok, type Subject, warn } from './finding.ts'

const check = 'replicas'
const advice = 'copy the data folder from one server to the others: docs/replicas.md says which files'

/** The servers on one PostgreSQL: whether they fit together, and this data folder to them. */
export async function replicas(subject: Subject): Promise<Finding[]> {
  const { storage, config, now, hostName, version } = subject
  if (storage?.dialect !== 'postgres') return []
  const applied = await appliedMigrations(storage.db as never)
  if (applied.join() !== knownMigrations.join()) return [] // told already
  const rows = await listServers(storage.db, addSeconds(now, -goneSeconds))
  const own = await readMarks(config)
  const findings: Finding[] = []
  for (const { host, pid, marks, version: other } of rows) {
    const name = `${host} (process ${pid})`
    findings.push(...compare(own, JSON.parse(marks) as Marks, name, host === hostName))
    if (other === version) continue
    const found = `the server on ${name} is version ${other}, this is ${version}`
    findings.push(warn(check, found, 'finish the upgrade: both work together meanwhile'))
  }
  const leaders = rows.filter(({ leads }) => leads === 1)
  if (rows.length > 0 && leaders.length === 0) {
    const found = `none of ${rows.length} servers leads: sessions do not run out, rollouts do not go on`
    findings.push(
      warn(check, found, 'look again in 5 s; behind a pooler the database must be reached directly'),
    )
  }
  const hosts = new Set(rows.map(({ host }) => host))
  const { artifacts } = config
  if (hosts.size > 1 && artifacts?.kind !== 's3') {
    const found = `${hosts.size} hosts, and images are kept in a folder`
    findings.push(
      warn(
        check,
        found,
        'all must have the same folder, by a shared file system; or set artifacts to s3://…',
      ),
    )
  }
  if (findings.length > 0) return findings
  const who = leaders.map(({ host, pid }) => `${host} (process ${pid})`).join(', ')
  if (rows.length === 0) return [ok(check, 'no server runs on this database')]
  return [ok(check, `${rows.length} of one version, with the same keys and settings; ${who} leads`)]
}

function compare(own: Marks, other: Marks, name: string, sameHost: boolean): Finding[] {
  return differingMarks(own, other).map((mark) => {
    const grave = graveMarks.has(mark)
    const hint = sameHost ? `${advice}; a server that was not restarted has the settings of before` : advice
    return (grave ? fail : warn)(
      check,
      `the server on ${name} has another ${mark} than this data folder`,
      hint,
    )
  })
}
