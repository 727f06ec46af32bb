import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { postgresAbsent } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { checkAftermath } from './aftermath.ts'
import { startMachines } from './machines.ts'
import { leaderBackend, openSite, type Replica, startBalancer } from './replicas.ts'

const wanted = process.env.PAWL_REQUIRE === 'all'
const lacking = postgresAbsent() ?? (spawnSync('which', ['haproxy']).status === 0 ? undefined : 'no haproxy')
const skip = wanted ? false : (lacking ?? false)

t.test('three servers behind HAProxy: whatever stops, every boot ends', { skip }, async (t) => {
  const site = await openSite(t, { settings: 'proxyProtocolFrom: [127.0.0.1]\n' })
  const { cluster, installed, replicas } = site
  await Promise.all(replicas.map((replica) => replica.start()))
  await startBalancer(t, site)
  const machines = startMachines({ ...site, ca: installed.ca, secret: installed.secret })
  const leader = async (): Promise<Replica> => {
    for (;;) {
      const rows = await cluster.query('select pid from processes where leads = 1', 'pawl')
      const found = replicas.find(
        ({ child }) => child().pid === rows[0]?.pid && child().exitCode === null && !child().killed,
      )
      if (found !== undefined && rows.length === 1) return found
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  await machines.more(20)

  const killed = await leader()
  const backend = await leaderBackend(site)
  const died = once(killed.child(), 'exit')
  killed.child().kill('SIGKILL')
  await died
  await machines.more(20)
  const next = await leader()
  t.not(next.name, killed.name, 'another leads within seconds')
  t.not(await leaderBackend(site), backend)
  await killed.start()

  const ended = once(next.child(), 'exit')
  next.child().kill('SIGTERM')
  let ready = 200
  while (ready === 200) ready = await next.ask('/readyz')
  t.equal(ready, 503, 'balancers are told before it stops')
  t.equal(await next.ask('/healthz'), 200, 'and it serves on meanwhile')
  t.same(await ended, [0, null], 'it ends by itself, in peace')
  t.not((await leader()).name, next.name, 'who is told to stop leads no more')
  await next.start()
  await machines.more(10)

  for (const mode of ['immediate', 'fast'] as const) {
    await cluster.stop(mode)
    t.equal(await next.ask('/readyz'), 503, `PostgreSQL is stopped, ${mode}: not ready`)
    t.equal(await next.ask('/healthz'), 200, 'and alive')
    await cluster.start()
    await machines.more(20)
    await until(t, () => Promise.all(replicas.map(({ ask }) => ask('/readyz'))), [200, 200, 200])
  }
  await machines.stop()

  t.ok(machines.ready.length >= 90)
  await checkAftermath(t, machines, replicas, installed.database)
  t.comment(`${machines.ready.length} boots, retries ${JSON.stringify([...machines.retries])}`)
})
