import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import manifest from '../../package.json' with { type: 'json' }
import { downgradeDatabase } from '../../src/storage/downgrade.ts'
import { verifyChains } from '../../src/storage/events.ts'
import { knownMigrations, releases } from '../../src/storage/migrate.ts'
import { withStorage } from '../backup/helpers.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { checkoutPrevious, previous, previousAbsent, root } from '../helpers/release.ts'
import { startMachines } from './machines.ts'
import { openSite, type Replica, startBalancer } from './replicas.ts'

const lacking = postgresAbsent() ?? (spawnSync('which', ['haproxy']).status === 0 ? undefined : 'no haproxy')
const skip = previousAbsent ?? (process.env.PAWL_REQUIRE === 'all' ? false : (lacking ?? false))
/** How many nodes the command line of a release lists, asking a server. */
async function nodesBy(release: string, { dataDir, operatorPort }: Replica): Promise<number> {
  const env = {
    PATH: process.env.PATH,
    PAWL_URL: `https://127.0.0.1:${operatorPort}`,
    PAWL_TOKEN: readFileSync(join(dataDir, 'admin.token'), 'utf8').trim(),
    PAWL_CA: join(dataDir, 'ca.crt'),
  }
  const { stdout } = await promisify(execFile)(join(release, 'bin/pawl'), ['node', 'list', '--json'], { env })
  return (JSON.parse(stdout) as { items: unknown[] }).items.length
}

const schemaBefore = releases[previous.version] ?? ''

t.test(
  `three servers go from ${previous.version} to this release one by one, while machines boot`,
  { skip },
  async (t) => {
    const old = checkoutPrevious(t)
    const site = await openSite(t, { nodes: 5, settings: 'proxyProtocolFrom: [127.0.0.1]\n' })
    const { cluster, installed, replicas } = site
    const { database, ca, secret } = installed
    await downgradeDatabase(database, schemaBefore, {
      apply: true,
      release: previous.version,
      now: new Date(),
    })
    await Promise.all(replicas.map((replica) => replica.start(old)))
    await startBalancer(t, site)
    const machines = startMachines({ ...site, ca, secret })
    await machines.more(10)

    const schema = async (): Promise<unknown> =>
      (await cluster.query('select max(name) as name from kysely_migration', 'pawl'))[0]?.name
    const versions = async (): Promise<unknown[]> =>
      (await cluster.query('select distinct version from processes order by version', 'pawl')).map(
        ({ version }) => version,
      )
    t.equal(await schema(), schemaBefore)
    for (const [at, replica] of replicas.entries()) {
      const ended = once(replica.child(), 'exit')
      replica.child().kill('SIGTERM')
      t.same(await ended, [0, null], `${replica.name} ends in peace`)
      await replica.start()
      t.equal(await replica.ask('/readyz'), 200, `${replica.name} is of this release`)
      t.equal(await schema(), knownMigrations.at(-1), 'the first brings the schema up to date')
      await machines.more(10)
      if (at === replicas.length - 1) continue
      t.same(await versions(), [previous.version, manifest.version], 'both serve')
      const others = replicas.slice(at + 1)
      const [other] = others
      if (other !== undefined && at === 0)
        t.same(
          await Promise.all([nodesBy(old, replica), nodesBy(root, other)]),
          [8, 8],
          'each is asked by the command line of the other',
        )
      t.same(
        await Promise.all(others.map(({ ask }) => ask('/readyz'))),
        others.map(() => 200),
        'those of before go on with the newer schema',
      )
    }
    t.same(await versions(), [manifest.version])
    await machines.stop()

    t.same(machines.faults, [])
    t.equal(new Set(machines.ready).size, machines.ready.length, 'each boot is a session of its own')
    for (const { log, name } of replicas) t.notMatch(log(), /stopping after an error|unhandled/i, name)
    await withStorage(database, async ({ db }) => {
      const rows = await db.selectFrom('sessions').select('id').where('state', '=', 'ready').execute()
      const ready = new Set(rows.map(({ id }) => id))
      t.same(
        machines.ready.filter((id) => !ready.has(id)),
        [],
        'what was acknowledged is kept',
      )
      t.same((await verifyChains(db)).faults, [], 'every event chain verifies')
    })

    const [first] = replicas
    if (first === undefined) throw new Error('there are three')
    await t.rejects(
      (async () => {
        const ended = once(first.child(), 'exit')
        first.child().kill('SIGTERM')
        await ended
        await first.start(old)
      })(),
      { message: /made by a newer Pawl/ },
      'one of before does not start any more',
    )
  },
)
