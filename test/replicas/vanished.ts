import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import t, { type Test } from 'tap'
import { openStorage } from '../../src/storage/database.ts'
import { type Cluster, startCluster } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'
import { checkAftermath } from './aftermath.ts'
import { startMachines } from './machines.ts'
import { leaderBackend, openSite, type Replica } from './replicas.ts'

/**
 * The host of PostgreSQL vanishes without a word: no packet of it comes any more, and none that it was sent is refused. Run by
 * `vanished.test.ts` in a network namespace of its own.
 */

function nft(...words: string[]): void {
  const done = spawnSync('nft', words, { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`nft failed: ${done.stderr}`)
}

/** From now on packets from and to it are lost; returns what ends that. */
function vanish({ port }: Cluster): () => void {
  nft('add table inet vanished')
  nft('add chain inet vanished lost { type filter hook input priority 0; }')
  for (const side of ['dport', 'sport']) nft(`add rule inet vanished lost tcp ${side} ${port} drop`)
  return () => nft('delete table inet vanished')
}

// What is left of a connection that was given up says so for minutes, in case it is heard: here for a second.
writeFileSync('/proc/sys/net/ipv4/tcp_orphan_retries', '1')

const socketsOf = (): string[][] =>
  readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/ +/))
const endOf = ({ port }: Cluster): string => `:${port.toString(16).toUpperCase().padStart(4, '0')}`

/** Connections that nobody has any more, and that still say so: state FIN-WAIT-1, and no inode. */
async function lastWords(cluster: Cluster): Promise<number> {
  return socketsOf().filter(
    ([, , peer = '', state, , , , , , inode]) =>
      peer.endsWith(endOf(cluster)) && state === '04' && inode === '0',
  ).length
}

/** Connections of PostgreSQL with an answer of which it does not know that it came. */
async function unheard(cluster: Cluster): Promise<number> {
  return socketsOf().filter(
    ([, own = '', , state, queues = '']) =>
      own.endsWith(endOf(cluster)) && state === '01' && !queues.startsWith('00000000:'),
  ).length
}

interface Asked {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly seconds: number
}

/** Stage 1 of a node, asked of a server itself. */
function askStage1({ bootPort }: Replica, ca: string, host: string, secret: string): Promise<Asked> {
  const path = `/v1/boot/${host}/stage1.ipxe?secret=${secret}&serial=${host}&platform=efi`
  const began = performance.now()
  return new Promise((resolve, reject) => {
    const asking = request({ host: '127.0.0.1', port: bootPort, path, ca, agent: false }, (response) => {
      response.resume().once('end', () => {
        const seconds = (performance.now() - began) / 1000
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], seconds })
      })
    })
    asking.once('error', reject).end()
  })
}

async function timed<T>(t: Test, words: string, work: Promise<T>): Promise<T> {
  const began = performance.now()
  const result = await work
  t.comment(`${words} after ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return result
}

t.test('servers whose PostgreSQL vanishes say so, and go on when it is back', async (t) => {
  const cluster = await startCluster(t)
  const databases = [cluster.url('pawl'), cluster.url('pawl')]
  const site = await openSite(t, { cluster, nodes: 12, databases })
  const { installed, replicas, hosts } = site
  const { ca, secret } = installed
  await Promise.all(replicas.map((replica) => replica.start()))
  const [first, second] = replicas as [Replica, Replica] // as many as databases
  const crowds = [first, second].map(({ bootPort }, n) =>
    startMachines({ port: bootPort, ca, secret, hosts: hosts.slice(n * 5, n * 5 + 5) }),
  )
  const each = (path: string) => Promise.all(replicas.map(({ ask }) => ask(path)))
  const all = (boots: number) => Promise.all(crowds.map((machines) => machines.more(boots)))
  await all(10)

  const isBack = vanish(cluster)
  const [spare = '', other = ''] = hosts.slice(10)
  const refused = Promise.all([
    askStage1(first, ca, spare, secret),
    askStage1(second, ca, other, secret),
    timed(t, 'not ready', each('/readyz')),
  ])
  t.same(await each('/healthz'), [200, 200], 'both are alive')
  const [one, two, ready] = await refused
  t.same(ready, [503, 503], 'and not ready')
  for (const { status, retryAfter, seconds } of [one, two]) {
    t.equal(status, 503)
    t.match(retryAfter, /^\d+$/)
    t.comment(`answered after ${seconds.toFixed(1)} s`)
    // A question is given up after 20 s; before it, five to get a connection, and 15 in the queue.
    t.ok(seconds < 45, `${seconds} s`)
  }
  const again = await askStage1(first, ca, spare, secret)
  t.equal(again.status, 503, 'who comes again meanwhile')
  t.comment(`answered after ${again.seconds.toFixed(1)} s`)
  await until(t, () => lastWords(cluster), 0)

  isBack()
  await timed(
    t,
    'ready again',
    until(t, () => each('/readyz'), [200, 200]),
  )
  await timed(t, 'boots', all(10))
  const led = async (): Promise<boolean> => (await leaderBackend(site)) !== undefined
  await timed(t, 'one leads', until(t, led, true))
  t.equal((await askStage1(first, ca, spare, secret)).status, 200)
  for (const machines of crowds) {
    await timed(t, 'every machine ended its boot', machines.stop())
    await checkAftermath(t, machines, replicas, installed.database)
  }
})

t.test('what a transaction had locked when PostgreSQL vanished is free soon when it is back', async (t) => {
  const cluster = await startCluster(t)
  const url = await cluster.create('locks')
  const [storage, other] = [await openStorage(url), await openStorage(url)]
  t.teardown(() => Promise.all([storage.close(), other.close()]))
  const at = new Date('2026-11-22T12:00:00Z').toISOString()
  const name = { name: 'demo', document: '{}', revision: 1, created_at: at, updated_at: at }
  await storage.db.insertInto('profiles').values(name).execute()
  const touch = (tx: typeof storage.db, revision: number) =>
    tx.updateTable('profiles').set({ revision }).where('name', '=', 'demo').execute()
  let isBack = (): void => {}
  const cut = storage.transaction(async (tx) => {
    await touch(tx as never, 2)
    // PostgreSQL knows that its answer came, and has nothing left to send: it never finds out by itself.
    await until(t, () => unheard(cluster), 0)
    isBack = vanish(cluster)
    await touch(tx as never, 3)
  })
  await t.rejects(cut, { code: 'storage-unavailable' })
  await until(t, () => lastWords(cluster), 0)
  isBack()
  const began = performance.now()
  const free = async (): Promise<boolean> =>
    touch(other.db, 4).then(
      () => true,
      () => false,
    )
  await until(t, free, true)
  t.comment(`free after ${((performance.now() - began) / 1000).toFixed(1)} s`)
})
