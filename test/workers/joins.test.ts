import { randomBytes } from 'node:crypto'
import t from 'tap'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { isOver, joiningProfile, storeSealed, tokensAt } from '../helpers/joining.ts'
import { type AskedOfKubernetes, startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { bootToJoin, send } from '../helpers/robot.ts'
import { until } from '../helpers/until.ts'
import { openToEach } from './connection.ts'
import { install } from './installation.ts'

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
const ofEach = 5

/** Who asks a cluster is the worker that serves the node; what it has begun is in the database that all of them share. */
await t.test(
  'a worker that is killed while a cluster makes credentials: each node gets one, and none is left behind',
  absent === undefined ? {} : { skip: absent },
  async (t) => {
    const url = await (await startPostgres()).createDatabase()
    const installation = await install(t, 2 * ofEach, url)
    const { folder, secrets, withStorage } = installation
    const api = await startKubernetesApi(t)
    await withStorage(({ db }) => storeSealed(db, folder, joiningProfile(api)))
    const server = await installation.start()
    const at = { port: server.port, ca: server.ca }
    const connections = await openToEach(server, 2, ofEach)
    const nodes = await Promise.all(
      [...secrets].map(async ([host, secret], n) => {
        const tokens = await bootToJoin((...asked) => send(at, ...asked), { host, secret })
        const connection = connections[n]
        if (connection === undefined) throw new Error('a connection for each')
        return { host, ...tokens, connection, key: randomBytes(16).toString('base64url') }
      }),
    )
    const victim = connections[0]?.worker ?? 0
    const killed = new Set(
      nodes.filter(({ connection }) => connection.worker === victim).map(({ host }) => host),
    )
    t.equal(killed.size, ofEach)

    const nodeOf = ({ body }: AskedOfKubernetes): string =>
      (body as { metadata: { annotations: Record<string, string> } }).metadata.annotations['pawl/node'] ?? ''
    const makes = (asked: AskedOfKubernetes): boolean =>
      asked.method === 'POST' && asked.path.endsWith('/secrets')
    let held = 0
    api.answer = (asked) => {
      if (!makes(asked) || !killed.has(nodeOf(asked))) return undefined
      // Of some the cluster has made it when the worker is killed, of the others not.
      held += 1
      if (held % 2 === 0) api.add({ ...asked.body, kind: 'Secret' })
      return 'hang'
    }
    const pathOf = (host: string, what: string): string => `/v1/boot/${host}/${what}`
    const joining = nodes.map(({ host, join, connection, key }) =>
      connection.ask('POST', pathOf(host, 'join'), {
        authorization: `Bearer ${join}`,
        'idempotency-key': key,
      }),
    )
    const ends = Promise.allSettled(joining)
    await api.asked((asked) => makes(asked) && killed.has(nodeOf(asked)), ofEach)
    const worker = server.workerOf(victim)
    if (worker === undefined) throw new Error('a worker that runs')
    process.kill(worker, 'SIGKILL')
    for (const [n, end] of (await ends).entries()) {
      const isCut = killed.has(nodes[n]?.host ?? '')
      t.equal(
        end.status === 'fulfilled' ? end.value.status : 'cut',
        isCut ? 'cut' : 200,
        nodes[n]?.host ?? '',
      )
    }

    // The nodes come again, by the same key, to whichever worker; the calls of the killed one are over by then.
    api.answer = () => undefined
    const past = { call_until: '2000-01-01T00:00:00.000Z' }
    await withStorage(({ db }) =>
      db.updateTable('join_credentials').set(past).where('call_until', 'is not', null).execute(),
    )
    const given = await Promise.all(
      nodes.map(async ({ host, join, key }) => {
        const answer = await send(at, 'POST', pathOf(host, 'join'), {
          authorization: `Bearer ${join}`,
          'idempotency-key': key,
        })
        t.equal(answer.status, 200, answer.text.slice(0, 200))
        return /token: \\"([a-z0-9]{6})\.[a-z0-9]{16}\\"/.exec(answer.text)?.[1] ?? ''
      }),
    )
    t.same(tokensAt(api).toSorted(), given.map((handle) => `bootstrap-token-${handle}`).toSorted())
    t.equal(new Set(given).size, nodes.length, 'one for each')
    const names = Map.groupBy(api.requests.filter(makes), nodeOf)
    for (const [host, asked] of names)
      t.equal(
        new Set(asked.map(({ body }) => (body as { metadata: { name: string } }).metadata.name)).size,
        1,
        `${host}: only one was ever made`,
      )

    await Promise.all(
      nodes.map(async ({ host, report, key }) => {
        const headers = {
          ...{ authorization: `Bearer ${report}`, 'idempotency-key': key },
          'content-type': 'application/x-www-form-urlencoded',
        }
        const answer = await send(at, 'POST', pathOf(host, 'report'), headers, 'message=success')
        t.equal(answer.status, 204)
      }),
    )
    await until(t, () => withStorage(({ db }) => isOver(db)), true)
    t.same(tokensAt(api), [], 'none is left behind')
    await withStorage(async ({ db }) => {
      const kinds = (await listEvents(db, { limit: 10_000 })).map(({ kind }) => kind)
      for (const kind of ['credential-made', 'credential-removed'])
        t.equal(kinds.filter((one) => one === kind).length, nodes.length, kind)
      t.same((await verifyChains(db)).faults, [])
    })
    server.child.kill('SIGTERM')
    t.match(await server.ended, { code: 0 })
  },
)
