import t from 'tap'
import { haproxyAbsent, startDatabaseProxy } from '../helpers/haproxy.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { type Cluster, startCluster, startStandby } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'
import { checkAftermath } from './aftermath.ts'
import { startMachines } from './machines.ts'
import { leaderBackend, openSite, startBalancer } from './replicas.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? haproxyAbsent() ?? false)

/** How many events a server of PostgreSQL has. */
async function eventsOf(cluster: Cluster): Promise<unknown> {
  return (await cluster.query('select count(*)::int as n from events', 'pawl'))[0]?.n
}

t.test(
  'the primary of PostgreSQL is killed and its standby promoted: every boot ends, and what comes back of before is not written to',
  { skip },
  async (t) => {
    const first = await startCluster(t)
    await first.query('create role pawl_check login')
    const second = await startStandby(t, first, 'second')
    await first.query("alter system set synchronous_standby_names = 'second'")
    await first.query('select pg_reload_conf()')
    const proxied = await startDatabaseProxy(t, [first, second])
    const named = `postgres://pawl@127.0.0.1:${first.port},127.0.0.1:${second.port}/pawl?target_session_attrs=read-write`
    const site = await openSite(t, {
      cluster: first,
      databases: [proxied('pawl'), named],
      settings: 'proxyProtocolFrom: [127.0.0.1]\n',
    })
    const { installed, replicas } = site
    await Promise.all(replicas.map((replica) => replica.start()))
    await startBalancer(t, site)
    const machines = startMachines({ ...site, ca: installed.ca, secret: installed.secret })
    const each = (path: string) => Promise.all(replicas.map(({ ask }) => ask(path)))
    await machines.more(20)

    await first.kill()
    const killed = performance.now()
    const since = (): string => `${((performance.now() - killed) / 1000).toFixed(1)} s`
    t.same(await each('/readyz'), [503, 503], 'the primary is dead: no server is ready')
    t.same(await each('/healthz'), [200, 200], 'and both are alive')
    await second.promote()
    t.comment(`promoted after ${since()}`)
    await machines.more(1)
    t.comment(`the next boot ended after ${since()}`)
    await until(t, () => each('/readyz'), [200, 200])
    t.comment(`both were ready after ${since()}`)
    const led = async (): Promise<boolean> =>
      (await leaderBackend({ ...site, cluster: second })) !== undefined
    await until(t, led, true)
    t.comment(`one led after ${since()}`)
    await machines.more(20)

    // Who starts it again does so without a thought: it acknowledges what nobody else has.
    await first.start()
    await first.query('alter system reset synchronous_standby_names')
    await first.query('select pg_reload_conf()')
    const left = await eventsOf(first)
    for (let round = 0; round < 5; round += 1) {
      await second.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'pawl'")
      await machines.more(10)
    }
    t.equal(await eventsOf(first), left, 'nothing is written to the primary of before')
    t.match(replicas[0]?.log(), /is a primary of before: its timeline is 1, and 2 was seen/)
    await first.stop('immediate')
    await machines.stop()

    await checkAftermath(t, machines, replicas, second.url('pawl'))
    t.comment(`${machines.ready.length} boots, retries ${JSON.stringify([...machines.retries])}`)
  },
)
