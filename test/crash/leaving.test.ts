import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import t from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { showLeaving, startLeaving } from '../../src/fleet/leavings.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { joiningProfile, storeSealed } from '../helpers/joining.ts'
import { type AskedOfKubernetes, startKubernetesApi, status } from '../helpers/kubernetes-api.ts'
import { freePort } from '../helpers/ports.ts'
import { until } from '../helpers/until.ts'
import { testSettings } from '../helpers/world.ts'
import { install } from './installation.ts'

/** Where the server is killed in the middle of a drain: at a request, before the cluster does it or behind that. */
interface Point {
  readonly what: string
  readonly at: (asked: AskedOfKubernetes) => boolean
  readonly isDone: boolean
}

const isCordon = ({ method, path }: AskedOfKubernetes): boolean =>
  method === 'PATCH' && path.endsWith('/nodes/node1')
const isEviction = ({ path }: AskedOfKubernetes): boolean => path.endsWith('/eviction')
const isList = ({ method, path }: AskedOfKubernetes): boolean => method === 'GET' && path === '/api/v1/pods'

const points: readonly Point[] = [
  { what: 'before it cordons', at: isCordon, isDone: false },
  { what: 'when the node is cordoned', at: isCordon, isDone: true },
  { what: 'before it evicts', at: isEviction, isDone: false },
  { what: 'when a pod is evicted', at: isEviction, isDone: true },
  { what: 'while it looks what is left', at: isList, isDone: false },
]

t.test('a server that is killed in the middle of a drain carries on when it runs again', async (t) => {
  const { dataDir, startChild, withStorage } = await install(t)
  const api = await startKubernetesApi(t)
  await withStorage(({ db }) =>
    storeSealed(db, dataDir, {
      ...joiningProfile(api),
      leave: { kind: 'kubernetes', kubeconfig: api.kubeconfig() },
    }),
  )
  const port = await freePort()
  let child: ChildProcess = await startChild(port)

  /** As `pawl node drain-and-reinstall` has the server do. */
  const leave = (): Promise<void> =>
    withStorage(async (storage) => {
      const sealer = settingsSealer(settingsKey(dataDir))
      const clock = (): Date => new Date()
      const parts: Partial<BootContext> = { storage, sealer, clock, randomBytes, settings: testSettings }
      // It asks for nothing else.
      await startLeaving(
        parts as BootContext,
        { actor: 'operator:test', source: null, role: 'operator' },
        'node1',
      )
    })

  async function leavingNow(): Promise<unknown> {
    let now: unknown
    await withStorage(async ({ db }) => {
      const { state, marked, cordoned, cause } = await showLeaving(db, 'node1')
      now = { state, marked, cordoned, cause, reinstall: (await showNode(db, 'node1')).reinstall }
    })
    return now
  }

  async function restart(): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    child = await startChild(port)
  }

  for (const [n, { what, at, isDone }] of points.entries()) {
    api.objects.clear()
    api.requests.length = 0
    api.add({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' }, spec: {} })
    for (const name of ['web-1', 'web-2', 'web-3']) api.addPod(name)
    // One is kept by its budget, so that the drain is under way when it is looked at.
    let isKept = true
    const budget = (asked: AskedOfKubernetes) =>
      isKept && asked.path.includes('/web-3/') ? status(429, 'TooManyRequests', 'budget') : undefined
    let kills = 0
    api.answer = (asked) => {
      if (kills > 0 || !at(asked)) return budget(asked)
      kills += 1
      if (isDone && isCordon(asked))
        api.add({
          apiVersion: 'v1',
          kind: 'Node',
          metadata: { name: 'node1' },
          spec: { unschedulable: true },
        })
      if (isDone && isEviction(asked)) api.evicted(asked.path.replace(/\/eviction$/, ''))
      child.kill('SIGKILL')
      return 'hang'
    }
    await leave()
    await once(child, 'exit')
    t.equal(kills, 1, what)
    t.match(
      await leavingNow(),
      { state: 'draining', marked: false, reinstall: 'none' },
      `${what}: nothing is marked`,
    )
    await restart()
    await api.asked((asked) => isEviction(asked) && asked.path.includes('/web-3/'), 2)
    t.match(
      await leavingNow(),
      { state: 'draining', marked: false, reinstall: 'none' },
      `${what}: it goes on`,
    )
    isKept = false
    const done = { state: 'done', marked: true, cordoned: true, cause: null, reinstall: 'marked' }
    await until(t, leavingNow, done)
    t.match(api.objects.get('/api/v1/nodes/node1'), { spec: { unschedulable: true } })
    t.same(
      [...api.objects.keys()].filter((path) => path.includes('/pods/')),
      [],
    )
    await withStorage(async ({ db }) => {
      t.same((await verifyChains(db)).faults, [])
      const kinds = (await listEvents(db, { limit: 10_000 })).map(({ kind }) => kind)
      for (const kind of ['leave-started', 'leave-drained', 'reinstall-marked', 'leave-completed'])
        t.equal(kinds.filter((one) => one === kind).length, n + 1, `${what}: ${kind} once`)
      t.notOk(kinds.includes('leave-failed'))
      await db.deleteFrom('leavings').execute()
      await db.updateTable('nodes').set({ reinstall: 'none' }).execute()
    })
  }
})
