import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import t from 'tap'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { isOver, joiningProfile, storeSealed, tokensAt } from '../helpers/joining.ts'
import { type AskedOfKubernetes, startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { freePort } from '../helpers/ports.ts'
import { type Answer, bootToJoin, send } from '../helpers/robot.ts'
import { until } from '../helpers/until.ts'
import { install } from './installation.ts'
import type { CrashPoint } from './server-child.ts'

/**
 * A server that ends without a warning while a cluster makes a credential for a boot, or removes it. A join is three transactions (plan,
 * lease, take) with the call behind the second, and a report one, with the removal behind it.
 */
type Point = CrashPoint | { readonly at: 'before call' | 'after call'; readonly n: 'POST' | 'DELETE' }

const points: Point[] = [
  ...[1, 2, 3, 4].flatMap((n): Point[] => [
    { at: 'before commit', n },
    { at: 'after commit', n },
  ]),
  { at: 'before call', n: 'POST' },
  { at: 'after call', n: 'POST' },
  { at: 'before call', n: 'DELETE' },
  { at: 'after call', n: 'DELETE' },
]

t.test('killed at each step, a join makes one credential, which is removed in the end', async (t) => {
  const installation = await install(t)
  const { ca, secret, dataDir, startChild, arm, withStorage, forgetSessions, bytes } = installation
  const api = await startKubernetesApi(t)
  await withStorage(({ db }) => storeSealed(db, dataDir, joiningProfile(api)))
  const port = await freePort()
  let child: ChildProcess = await startChild(port)
  let crashes = 0
  const secrets: string[] = []

  /** The server is started anew, at a time when what the one before was about is over. */
  async function recover(): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    crashes += 1
    api.answer = () => undefined
    const past = { call_until: '2000-01-01T00:00:00.000Z' }
    await withStorage(async ({ db }) => {
      await db.updateTable('join_credentials').set(past).where('call_until', 'is not', null).execute()
      await db
        .updateTable('join_credentials')
        .set({ remove_at: '2000-01-01T00:00:00.000Z' })
        .where('removal', 'is not', null)
        .execute()
    })
    child = await startChild(port)
  }

  async function ask(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body = '',
  ): Promise<Answer> {
    for (;;) {
      const answer = await send({ port, ca }, method, path, headers, body).catch(recover)
      if (answer !== undefined) return answer
    }
  }

  function die(asked: AskedOfKubernetes, point: Point): 'hang' | undefined {
    if (asked.method !== point.n || !asked.path.includes('/secrets')) return undefined
    if (point.at === 'after call') {
      if (asked.method === 'POST') api.add({ ...asked.body, kind: 'Secret' })
      else api.objects.delete(asked.path)
    }
    api.answer = () => undefined
    child.kill('SIGKILL')
    return 'hang'
  }

  const idempotencyKey = (): string => randomBytes(16).toString('base64url')
  for (const point of points) {
    const name = `${point.at} ${point.n}`
    await forgetSessions()
    const before = api.requests.length
    crashes = 0
    const { join, report } = await bootToJoin(ask, { host: 'node1', secret })
    t.equal(crashes, 0, name)
    if (typeof point.n === 'string') api.answer = (asked) => die(asked, point)
    else await arm(child, point as CrashPoint) // its `n` is a number
    const headers = { authorization: `Bearer ${join}`, 'idempotency-key': idempotencyKey() }
    const joined = await ask('POST', '/v1/boot/node1/join', headers)
    if (joined.status !== 200) throw new Error(`${name}: ${joined.text}`)
    t.equal(joined.status, 200, `${name}: ${joined.text.slice(0, 200)}`)
    const [, handle = '', half = ''] = /token: \\"([a-z0-9]{6})\.([a-z0-9]{16})\\"/.exec(joined.text) ?? []
    secrets.push(half)
    t.same(tokensAt(api), [`bootstrap-token-${handle}`], `${name}: there is one, and the node has it`)
    const reported = await ask(
      'POST',
      '/v1/boot/node1/report',
      {
        ...{ authorization: `Bearer ${report}`, 'idempotency-key': idempotencyKey() },
        'content-type': 'application/x-www-form-urlencoded',
      },
      'message=success',
    )
    t.equal(reported.status, 204, name)
    if (point.n === 'DELETE') await recover()
    // By the commit of the report, or by the server that was started behind it.
    await until(t, () => overIn(installation), true)
    t.same(tokensAt(api), [], `${name}: it is gone`)
    t.equal(crashes, 1, `${name}: the server was killed`)
    const names = api.requests
      .slice(before)
      .filter(({ method }) => method === 'POST')
      .map(({ body }) => (body as { metadata: { name: string } }).metadata.name)
    t.equal(new Set(names).size, 1, `${name}: only one was ever made`)
    await withStorage(async (storage) => {
      t.same((await verifyChains(storage.db)).faults, [], `${name}: every chain verifies`)
    })
  }
  await withStorage(async ({ db }) => {
    const kinds = (await listEvents(db, { limit: 10_000 })).map(({ kind }) => kind)
    const count = (wanted: string): number => kinds.filter((kind) => kind === wanted).length
    t.equal(count('credential-made'), points.length)
    t.equal(count('credential-removed'), points.length)
  })
  const stored = bytes()
  t.same(
    secrets.filter((half) => half === '' || stored.includes(half)),
    [],
    'no secret of one is in the database, not even in what it deleted',
  )
})

/** Whether its removal is over; what is left of it is taken out of the way of the next boot. */
async function overIn({ withStorage }: Awaited<ReturnType<typeof install>>): Promise<boolean> {
  let over = false
  await withStorage(async ({ db }) => {
    over = await isOver(db)
    if (over) await db.deleteFrom('join_credentials').execute()
  })
  return over
}
