import t, { type Test } from 'tap'
import { PawlError } from '../../src/errors.ts'
import type { By } from '../../src/fleet/change.ts'
import { cancelLeaving, showLeaving, startLeaving } from '../../src/fleet/leavings.ts'
import { pageOfNodes, showNode } from '../../src/fleet/node-view.ts'
import { addNode, changeNode, removeNode } from '../../src/fleet/nodes.ts'
import { applyProfile, showProfile } from '../../src/fleet/profiles.ts'
import { reinstall } from '../../src/fleet/reinstall.ts'
import { hookStep } from '../../src/leaving/hook.ts'
import { removeNodeAndObject } from '../../src/leaving/remove.ts'
import { tendLeavings } from '../../src/leaving/tend.ts'
import type { LeavingRow } from '../../src/storage/leaving-tables.ts'
import { findLeaving } from '../../src/storage/leavings.ts'
import { findNode } from '../../src/storage/nodes.ts'
import {
  type AskedOfKubernetes,
  type KubernetesStandIn,
  standInToken,
  startKubernetesApi,
  status,
} from '../helpers/kubernetes-api.ts'
import { type Receiver, signersOf, startReceiver } from '../helpers/receiver.ts'
import { forEachDatabase, type OpenWorld, type World, type WorldOptions } from '../helpers/world.ts'

const by: By = { actor: 'operator:ann', source: '192.0.2.9', role: 'operator' }
const secret = `whsec_${Buffer.alloc(32, 3).toString('base64')}`
const loopback = { webhookAllowedNetworks: [{ address: '127.0.0.0', prefixLength: 8 }] }
const noteOf = { via: undefined }

/** A world with a node whose profile leaves as `hooks` say. */
async function withNode(
  openWorld: OpenWorld,
  hooks: object,
  settings: WorldOptions['settings'] = {},
): Promise<World> {
  const world = await openWorld({ settings: { ...loopback, ...settings } })
  await applyProfile(world.context, by, 'worker', profileWith(hooks))
  await addNode(world.context, by, { name: 'node1', profile: 'worker' })
  return world
}

const images = { stage2: 'small@1', stage3: 'full@1' }
const profileWith = (hooks: object): object => ({ name: 'worker', boot: images, reinstall: images, ...hooks })

/** A cluster with that node. */
async function cluster(t: Test): Promise<KubernetesStandIn> {
  const api = await startKubernetesApi(t)
  api.add({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' }, spec: {} })
  return api
}

const kubernetes = (api: KubernetesStandIn, more: object = {}): { leave: object } => ({
  leave: { kind: 'kubernetes', kubeconfig: api.kubeconfig(), ...more },
})

/** Lets the leader work until nothing is under way or so many seconds of the world's clock are over. */
async function tend({ context, clock }: World, seconds = 60): Promise<void> {
  for (let second = 0; second <= seconds; second += 1) {
    await tendLeavings(context)
    const view = await showLeaving(context.storage.db, 'node1').catch(() => undefined)
    if (view === undefined || view.endedAt !== null) return
    clock.advance(1)
  }
}

const state = async ({ context }: World): Promise<unknown> => showLeaving(context.storage.db, 'node1')
const mark = async ({ context }: World): Promise<string> =>
  (await showNode(context.storage.db, 'node1')).reinstall
const node = (api: KubernetesStandIn): unknown => api.objects.get('/api/v1/nodes/node1')
const leaves = (world: World): Promise<string[]> =>
  world.kinds().then((kinds) => kinds.filter((kind) => /^(leave-|reinstall-|cluster-)/.test(kind)))

await forEachDatabase(t, async (t, openWorld) => {
  t.test('a profile says what cannot work before anybody leaves by it', async (t) => {
    const api = await cluster(t)
    const { context } = await openWorld()
    const hook = { kind: 'webhook', url: 'https://hooks.example.test/leave', secret }
    const cases: readonly (readonly [object, RegExp])[] = [
      [{ leave: { kind: 'kubernetes' } }, /leave/],
      [
        { leave: { kind: 'kubernetes', kubeconfig: 'nonsense' } },
        /profile "worker": leave\.kubeconfig: is not a mapping/,
      ],
      [
        { leave: { kind: 'kubernetes', kubeconfig: api.kubeconfig({ as: 'expired-certificate' }) } },
        /profile "worker": leave\.kubeconfig: the kubeconfig's client certificate ended at/,
      ],
      [
        { leave: { kind: 'kubernetes', kubeconfig: 'join' } },
        /profile "worker": leave\.kubeconfig says "join", and no join of the profile has a kubeconfig/,
      ],
      [kubernetes(api, { timeoutSeconds: 1 }), /leave/],
      [kubernetes(api, { unknown: true }), /leave/],
      [{ leave: { ...hook, url: 'ftp://x' } }, /the leave hook's URL is not https/],
      [{ leave: { ...hook, url: 'https://u:p@x/' } }, /the leave hook's URL holds a user or password/],
      [{ leave: { ...hook, secret: 'short' } }, /leave/],
      [{ leave: { ...hook, secret: '***' } }, /leave\.secret is "\*\*\*", and nothing is stored there/],
      [{ reboot: hook }, /profile "worker": reboot needs "leave"/],
      [{ leave: hook, reinstall: undefined }, /profile "worker": leave needs a reinstall sequence/],
    ]
    for (const [hooks, message] of cases) {
      const document = JSON.parse(JSON.stringify(profileWith(hooks)))
      await t.rejects(applyProfile(context, by, 'worker', document), { code: 'invalid', message })
    }
  })

  t.test('secrets of hooks are sealed, shown as *** and kept when that is sent back', async (t) => {
    const api = await cluster(t)
    const hook = { kind: 'webhook', url: 'https://hooks.example.test/reboot', secret }
    const world = await withNode(openWorld, { ...kubernetes(api), reboot: hook })
    const { profile, revision } = await showProfile(world.context.storage.db, 'worker')
    t.match(profile, { leave: { kubeconfig: '***' }, reboot: { secret: '***' } })
    const again = await applyProfile(world.context, by, 'worker', profile)
    t.equal(again.revision, revision, 'the same profile is no new revision')
    await startLeaving(world.context, by, 'node1')
    const dump = await world.dump()
    for (const text of [standInToken, api.kubeconfig(), secret])
      t.notOk(dump.includes(text), 'nowhere in clear')
  })

  t.test('refuses to begin what could not end', async (t) => {
    const api = await cluster(t)
    const world = await withNode(openWorld, {})
    const { context } = world
    await t.rejects(startLeaving(context, by, 'nobody'), { code: 'not-found' })
    await t.rejects(startLeaving(context, by, 'node1'), {
      code: 'conflict',
      message: 'profile "worker" of node "node1" does not say how it leaves',
    })
    await t.rejects(showLeaving(context.storage.db, 'node1'), { code: 'not-found' })
    await t.rejects(cancelLeaving(context, by, 'node1'), { code: 'not-found' })
    await addNode(context, by, { name: 'node2' })
    await t.rejects(startLeaving(context, by, 'node2'), {
      code: 'conflict',
      message: /node "node2" has no profile/,
    })
    t.same(api.requests, [])
    t.same(await leaves(world), [])
  })

  t.test('drains as kubectl does, then marks, then says that the operator is to reboot', async (t) => {
    const api = await cluster(t)
    api.addPod('web-1')
    api.addPod('elsewhere', { node: 'node2' })
    api.addPod('proxy', { owner: 'DaemonSet', volumes: [{ emptyDir: {} }] })
    api.addPod('etcd-node1', { owner: 'Node', annotations: { 'kubernetes.io/config.mirror': 'x' } })
    api.addPod('finished', { owner: null, phase: 'Succeeded', volumes: [{ emptyDir: {} }] })
    const world = await withNode(openWorld, kubernetes(api, { gracePeriodSeconds: 7 }))
    const begun = await startLeaving(world.context, by, 'node1')
    t.match(begun, {
      state: 'draining',
      hook: 'kubernetes',
      reboot: 'operator',
      cordoned: false,
      marked: false,
    })
    t.same(await startLeaving(world.context, by, 'node1'), begun, 'asked again it is the same one')
    await tend(world)
    t.match(await state(world), { state: 'done', cordoned: true, marked: true, cause: null })
    t.equal(await mark(world), 'marked')
    t.match(node(api), { spec: { unschedulable: true } })
    t.same(
      [...api.objects.keys()].filter((path) => path.includes('/pods/')).map((path) => path.split('/').at(-1)),
      ['elsewhere', 'proxy', 'etcd-node1'],
    )
    const evictions = api.requests.filter(({ path }) => path.endsWith('/eviction'))
    t.match(evictions, [
      {
        body: {
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name: 'web-1', namespace: 'default' },
          deleteOptions: { gracePeriodSeconds: 7, preconditions: { uid: 'uid-of-web-1' } },
        },
      },
      { body: { metadata: { name: 'finished' } } },
    ])
    t.same(await leaves(world), ['leave-started', 'leave-drained', 'reinstall-marked', 'leave-completed'])
    const all = JSON.stringify(await world.events())
    t.notOk(all.includes(standInToken), 'no event has the token')
  })

  t.test('evicts by policy/v1beta1 where the cluster knows no other', async (t) => {
    const api = await cluster(t)
    api.addPod('web-1')
    api.answer = ({ path }) =>
      path === '/api/v1'
        ? {
            status: 200,
            body: { resources: [{ name: 'pods/eviction', group: 'policy', version: 'v1beta1' }] },
          }
        : undefined
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    t.match(
      api.requests.find(({ path }) => path.endsWith('/eviction')),
      { body: { apiVersion: 'policy/v1beta1' } },
    )
  })

  t.test(
    'names the pods that may not be evicted, evicts none and marks nothing; told so, it does',
    async (t) => {
      const api = await cluster(t)
      api.addPod('web-1')
      api.addPod('alone', { owner: null })
      api.addPod('scratch', { volumes: [{ name: 'tmp', emptyDir: {} }] })
      const world = await withNode(openWorld, kubernetes(api))
      await startLeaving(world.context, by, 'node1')
      await tend(world)
      t.match(await state(world), {
        state: 'failed',
        marked: false,
        cordoned: true,
        cause:
          'pod default/alone: no controller makes it again (leave.force evicts such pods); pod default/scratch: it has an emptyDir volume, whose data would be lost (leave.deleteEmptyDirData evicts such pods)',
      })
      t.equal(await mark(world), 'none')
      t.same(
        api.requests.filter(({ method }) => method === 'POST'),
        [],
      )
      await cancelLeaving(world.context, by, 'node1')
      await tend(world)
      t.match(await state(world), { state: 'cancelled', cordoned: false })
      t.match(node(api), { spec: { unschedulable: false } })
      const wishes = { force: true, deleteEmptyDirData: true }
      await applyProfile(world.context, by, 'worker', profileWith(kubernetes(api, wishes)))
      await startLeaving(world.context, by, 'node1')
      await tend(world)
      t.match(await state(world), { state: 'done', marked: true })
    },
  )

  t.test('a node shows how it leaves, until it has or that is taken back whole', async (t) => {
    const api = await cluster(t)
    const world = await withNode(openWorld, kubernetes(api))
    const { db } = world.context.storage
    await addNode(world.context, by, { name: 'node2' })
    const shown = async (): Promise<unknown> => {
      const { leaving } = await showNode(db, 'node1')
      const { items } = await pageOfNodes(db, { limit: 10 })
      t.same(
        items.map((node) => node.leaving),
        [leaving, null],
        'lists say the same',
      )
      if (leaving !== null) t.same(leaving, await showLeaving(db, 'node1'), 'all of it')
      return leaving?.state ?? null
    }
    t.equal(await shown(), null)
    await startLeaving(world.context, by, 'node1')
    t.equal(await shown(), 'draining')
    const table: [changes: Partial<LeavingRow>, shown: string | null][] = [
      [{ state: 'failed', cordoned: 0 }, 'failed'],
      [{ state: 'cancelled', cordoned: 1 }, 'cancelled'],
      [{ state: 'cancelled', cordoned: 0 }, null],
      [{ state: 'done', cordoned: 1 }, null],
      [{ state: 'failed', cordoned: 1 }, 'failed'],
    ]
    for (const [changes, state] of table) {
      const ended_at = world.clock.now().toISOString()
      await db
        .updateTable('leavings')
        .set({ ...changes, ended_at })
        .execute()
      t.equal(await shown(), state, JSON.stringify(changes))
    }
    world.clock.advance(1)
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    t.equal(await shown(), null, 'one that failed before is over with the next that is done')
  })

  t.test('waits for a disruption budget until it lets go, and gives up when the time is over', async (t) => {
    const api = await cluster(t)
    api.addPod('web-1')
    let held = true
    api.answer = ({ path }) =>
      held && path.endsWith('/eviction') ? status(429, 'TooManyRequests', 'budget') : undefined
    const world = await withNode(openWorld, kubernetes(api, { timeoutSeconds: 30 }))
    await startLeaving(world.context, by, 'node1')
    await tend(world, 10)
    const waitsFor = 'pod default/web-1: its disruption budget does not let it go now'
    t.match(await state(world), { state: 'draining', waitsFor })
    await tend(world, 40)
    t.match(await state(world), { state: 'failed', cause: `it took too long, waiting for ${waitsFor}` })
    t.equal(await mark(world), 'none')
    held = false
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    t.match(await state(world), { state: 'done' })
  })

  t.test('waits until an evicted pod is gone', async (t) => {
    const api = await cluster(t)
    api.addPod('web-1')
    api.evicted = (path) => {
      const pod = api.objects.get(path) as { metadata: object }
      api.objects.set(path, {
        ...pod,
        metadata: { ...pod.metadata, deletionTimestamp: '2026-11-21T06:00:30Z' },
      })
    }
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    await tend(world, 10)
    t.match(await state(world), { state: 'draining', waitsFor: 'pod default/web-1 to end' })
    t.equal(api.requests.filter(({ path }) => path.endsWith('/eviction')).length, 1, 'it is evicted once')
    api.objects.delete('/api/v1/namespaces/default/pods/web-1')
    await tend(world)
    t.match(await state(world), { state: 'done' })
  })

  t.test(
    'what the API may answer: every fault is told, none marks, and what passes is waited for',
    async (t) => {
      const api = await cluster(t)
      const pod = (metadata: object) => ({ metadata, spec: { nodeName: 'node1' } })
      const lists = (items: unknown) => ({ status: 200, body: { items } as Record<string, unknown> })
      const named = { name: 'a', namespace: 'b', uid: 'c' }
      const isList = (path: string): boolean => path === '/api/v1/pods'
      const noList = 'the Kubernetes API did not answer with a list of pods'
      const cases: readonly (readonly [KubernetesStandIn['answer'], string, 'failed' | 'draining'])[] = [
        [
          () => status(401, 'Unauthorized', 'x'),
          'the Kubernetes API does not know the credential of the kubeconfig (401): x',
          'failed',
        ],
        [
          () => status(403, 'Forbidden', 'x'),
          'the Kubernetes API forbids this to the account of the kubeconfig (403): x',
          'failed',
        ],
        [
          () => status(404, 'NotFound', 'nodes "node1" not found'),
          'the Kubernetes API answered 404: nodes "node1" not found',
          'failed',
        ],
        [() => status(500, 'InternalError', 'x'), 'the Kubernetes API answered 500: x', 'draining'],
        [({ path }) => (isList(path) ? lists('x') : undefined), noList, 'failed'],
        [({ path }) => (isList(path) ? lists([null]) : undefined), noList, 'failed'],
        [
          ({ path }) => (isList(path) ? lists([pod({ ...named, name: '../nodes' })]) : undefined),
          noList,
          'failed',
        ],
        [({ path }) => (isList(path) ? lists([pod({ ...named, uid: 7 })]) : undefined), noList, 'failed'],
        [
          ({ path }) =>
            isList(path) ? lists([{ metadata: named, spec: { nodeName: 'node2' } }]) : undefined,
          'the Kubernetes API answered with pods of another node',
          'failed',
        ],
        [
          ({ path }) =>
            isList(path) ? { status: 200, body: { items: [], metadata: { continue: 'x' } } } : undefined,
          'the Kubernetes API answered more than 40 pages of pods',
          'failed',
        ],
        [
          ({ path }) => (isList(path) ? { status: 200, body: 'x'.repeat(5 * 1024 * 1024) } : undefined),
          'the Kubernetes API answered more than 4194304 bytes',
          'failed',
        ],
        [
          () => ({ status: 200, body: { spec: 1 } }),
          'the Kubernetes API did not answer with a node',
          'failed',
        ],
        [
          ({ path }) => (path.endsWith('/eviction') ? status(403, 'Forbidden', 'no') : undefined),
          'the Kubernetes API forbids this to the account of the kubeconfig (403): no',
          'failed',
        ],
      ]
      const world = await withNode(openWorld, kubernetes(api, { timeoutSeconds: 60 }))
      api.addPod('web-1')
      for (const [answer, said, expected] of cases) {
        api.answer = answer
        await startLeaving(world.context, by, 'node1')
        await tend(world, 4)
        const view = await showLeaving(world.context.storage.db, 'node1')
        t.equal(view.state, expected, said)
        t.equal(view.cause ?? view.waitsFor, said)
        t.equal(await mark(world), 'none')
        if (view.endedAt === null || view.cordoned) await cancelLeaving(world.context, by, 'node1')
        api.answer = () => undefined
        await tend(world)
        world.clock.advance(1)
      }
    },
  )

  t.test('carries on after a kill at each point, from what the row and the cluster say', async (t) => {
    for (const at of ['PATCH', 'POST', 'DELETE']) {
      const api = await cluster(t)
      api.addPod('web-1')
      const world = await withNode(openWorld, kubernetes(api, { deleteNode: true }))
      const { context } = world
      await startLeaving(context, by, 'node1')
      // The cluster did it, and the process that asked died before it could write that down.
      let killed = false
      const mortal = <T extends object>(whole: T): T =>
        new Proxy(whole, {
          get: (target, key) => {
            if (killed) throw new Error('killed')
            const value: unknown = Reflect.get(target, key)
            if (key === 'db') return mortal(value as object)
            return typeof value === 'function' ? value.bind(target) : value
          },
        })
      const dying = { ...context, storage: mortal(context.storage), onEffectError: () => {} }
      api.answer = ({ method }) => {
        killed ||= method === at
        return undefined
      }
      for (let second = 0; second < 8 && !killed; second += 1) {
        await tendLeavings(dying).catch(() => {})
        world.clock.advance(2)
      }
      t.ok(killed, `killed at ${at}`)
      t.match(await state(world), { state: 'draining', marked: false })
      api.answer = () => undefined
      await tend(world)
      t.match(await state(world), { state: 'done', marked: true, cordoned: false }, `after a kill at ${at}`)
      t.equal(node(api), undefined, 'the object of the node is gone')
      t.same(await leaves(world), ['leave-started', 'leave-drained', 'reinstall-marked', 'leave-completed'])
    }
  })

  t.test('two leaders of a moment write each step once', async (t) => {
    const api = await cluster(t)
    api.addPod('web-1')
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    for (let second = 0; second < 12; second += 1) {
      await Promise.all([tendLeavings(world.context), tendLeavings(world.context)])
      world.clock.advance(1)
    }
    t.same(await leaves(world), ['leave-started', 'leave-drained', 'reinstall-marked', 'leave-completed'])
    t.same(world.errors, [])
  })

  t.test('a cancel takes back the mark, and what the operator had cordoned stays so', async (t) => {
    const api = await cluster(t)
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    t.equal(await mark(world), 'marked')
    t.match(await cancelLeaving(world.context, by, 'node1'), { state: 'cancelling', marked: false })
    t.equal(await mark(world), 'none')
    await tend(world)
    t.match(await state(world), { state: 'cancelled', cordoned: false, cause: null })
    t.match(node(api), { spec: { unschedulable: false } })
    await t.rejects(cancelLeaving(world.context, by, 'node1'), { code: 'conflict' })
    api.objects.set('/api/v1/nodes/node1', { ...(node(api) as object), spec: { unschedulable: true } })
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    t.match(await cancelLeaving(world.context, by, 'node1'), { state: 'cancelled' })
    await tend(world)
    t.match(node(api), { spec: { unschedulable: true } })
  })

  t.test('a cancel whose cluster does not answer says what is left to do', async (t) => {
    const api = await cluster(t)
    api.addPod('web-1', { owner: null })
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    api.answer = () => status(403, 'Forbidden', 'no')
    await cancelLeaving(world.context, by, 'node1')
    await tend(world)
    t.match(await state(world), {
      state: 'cancelled',
      cause: /^it may still be unschedulable: the Kubernetes API forbids/,
    })
  })

  t.test('a node that is removed leaves no further', async (t) => {
    const api = await cluster(t)
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    await removeNode(world.context, by, 'node1')
    await tendLeavings(world.context)
    t.same(api.requests, [])
    const rows = await world.context.storage.db.selectFrom('leavings').select(['state', 'cause']).execute()
    t.same(rows, [{ state: 'failed', cause: 'the node was removed' }])
    world.clock.advance(31 * 86_400)
    await tendLeavings(world.context)
    t.same(
      await world.context.storage.db.selectFrom('leavings').selectAll().execute(),
      [],
      'forgotten in time',
    )
  })

  t.test(
    'hooks by webhook: signed, one message however often it is sent, and judged by their answer',
    async (t) => {
      const receiver = await startReceiver(t)
      const hook = {
        kind: 'webhook',
        url: `${receiver.url}/hook`,
        secret,
        ca: receiver.ca,
        timeoutSeconds: 60,
      }
      const waits = (why: string): object => ({ state: 'draining', waitsFor: `the leave hook${why}` })
      const cases: readonly (readonly [number, object])[] = [
        [200, { state: 'done', marked: true, reboot: 'webhook' }],
        [204, { state: 'done', marked: true }],
        [202, waits(' to be done: it answered 202')],
        [429, waits(' answered 429')],
        [503, waits(' answered 503')],
        [
          302,
          {
            state: 'failed',
            marked: false,
            cause: 'the leave hook answered 302: redirects are not followed',
          },
        ],
        [404, { state: 'failed', marked: false, cause: 'the leave hook answered 404' }],
      ]
      for (const [code, expected] of cases) {
        const world = await withNode(openWorld, { leave: hook, reboot: hook })
        receiver.received.length = 0
        receiver.answer = () => ({ status: code })
        await startLeaving(world.context, by, 'node1')
        await tend(world, 15)
        t.match(await state(world), expected, String(code))
        checkMessages(t, receiver)
        if (!('waitsFor' in expected)) continue
        await tend(world, 70)
        t.match(await state(world), {
          state: 'failed',
          cause: /^it took too long, waiting for the leave hook/,
        })
        t.equal(await mark(world), 'none')
      }
    },
  )

  t.test('a reboot hook that says no leaves the node marked, and the operator is told', async (t) => {
    const receiver = await startReceiver(t)
    const hook = { kind: 'webhook', secret, ca: receiver.ca }
    const world = await withNode(openWorld, {
      leave: { ...hook, url: `${receiver.url}/leave` },
      reboot: { ...hook, url: `${receiver.url}/reboot` },
    })
    receiver.answer = ({ path }) => ({ status: path === '/reboot' ? 400 : 200 })
    await startLeaving(world.context, by, 'node1')
    await tend(world)
    t.match(await state(world), { state: 'failed', marked: true, cause: 'the reboot hook answered 400' })
    t.equal(await mark(world), 'marked')
    t.same(await leaves(world), ['leave-started', 'leave-drained', 'reinstall-marked', 'leave-failed'])
  })

  t.test('a hook in a network that is not listed is not called', async (t) => {
    const receiver = await startReceiver(t)
    const leave = { kind: 'webhook', url: receiver.url, secret, ca: receiver.ca }
    const world = await withNode(openWorld, { leave }, { webhookAllowedNetworks: [] })
    await startLeaving(world.context, by, 'node1')
    await tend(world, 3)
    t.match(await state(world), { state: 'draining', waitsFor: /is not of the public Internet/ })
    t.same(receiver.received, [])
  })

  t.test("a node is removed with its cluster's object, or not at all", async (t) => {
    const api = await cluster(t)
    const world = await withNode(openWorld, {})
    const { context } = world
    const removal = () => removeNodeAndObject(context, by, 'node1')
    await t.rejects(removeNodeAndObject(context, by, 'nobody'), { code: 'not-found' })
    await t.rejects(removal(), { code: 'conflict', message: /nothing was removed/ })
    await applyProfile(context, by, 'worker', profileWith(kubernetes(api)))
    for (const code of [401, 403, 500]) {
      api.answer = () => status(code, 'x', 'no')
      await t.rejects(removal(), {
        code: 'cluster-failed',
        message: /^nothing was removed: the Kubernetes API/,
      })
    }
    api.answer = () => undefined
    t.ok(node(api), 'the object is there')
    t.equal((await showNode(context.storage.db, 'node1')).name, 'node1')
    await removal()
    t.equal(node(api), undefined)
    await t.rejects(showNode(context.storage.db, 'node1'), { code: 'not-found' })
    await addNode(context, by, { name: 'node1', profile: 'worker' })
    await removal() // one that the cluster does not have
    const told = (await world.events()).filter(({ kind }) => kind === 'cluster-node-removed')
    t.same(
      told.map(({ detail }) => ({ ...noteOf, ...detail })),
      [
        { via: undefined, found: true },
        { via: undefined, found: false },
      ],
    )
  })

  t.test('started again after a failure, a cancel takes back what the first try did', async (t) => {
    const api = await cluster(t)
    api.addPod('alone', { owner: null })
    const receiver = await startReceiver(t)
    const hook = { kind: 'webhook', url: receiver.url, secret, ca: receiver.ca }
    const world = await withNode(openWorld, { ...kubernetes(api), reboot: hook })
    const { context } = world
    const schedulesAgain = async (why: string): Promise<void> => {
      await cancelLeaving(context, by, 'node1')
      await tend(world)
      t.match(await state(world), { state: 'cancelled', cordoned: false, marked: false }, why)
      t.match(node(api), { spec: { unschedulable: false } }, why)
      t.equal(await mark(world), 'none', why)
      world.clock.advance(1)
    }
    const startsAgain = async (why: string): Promise<void> => {
      world.clock.advance(1)
      t.match(await startLeaving(context, by, 'node1'), { state: 'draining', cordoned: true }, why)
    }
    await startLeaving(context, by, 'node1')
    await tend(world)
    t.match(await state(world), { state: 'failed', cordoned: true })
    await startsAgain('after a drain that failed')
    await schedulesAgain('cancelled at once')
    await startLeaving(context, by, 'node1')
    await tend(world)
    await startsAgain('after a drain that failed')
    await tend(world)
    t.match(await state(world), { state: 'failed', cordoned: true }, 'failed twice')
    await schedulesAgain('cancelled after the second failure')
    api.objects.delete('/api/v1/namespaces/default/pods/alone')
    for (const code of [400, 200]) {
      receiver.answer = () => ({ status: code })
      await startLeaving(context, by, 'node1')
      await tend(world)
      t.match(await state(world), { state: code === 400 ? 'failed' : 'done', cordoned: true, marked: true })
      await startsAgain(`after a reboot hook that answered ${code}`)
      t.match(await state(world), { marked: true })
      await schedulesAgain(`marked by the first try, whose reboot hook answered ${code}`)
    }
    // What another try did not do is not taken back: the operator's own mark and cordon stay.
    api.objects.set('/api/v1/nodes/node1', { ...(node(api) as object), spec: { unschedulable: true } })
    await reinstall(context, by, { nodes: ['node1'] })
    t.match(await startLeaving(context, by, 'node1'), { cordoned: false, marked: false })
    await tendLeavings(context)
    await cancelLeaving(context, by, 'node1')
    await tend(world)
    t.match(node(api), { spec: { unschedulable: true } })
    t.equal(await mark(world), 'marked')
  })

  t.test('an uncordon that failed is tried again, by the kubeconfig that the profile has now', async (t) => {
    const api = await cluster(t)
    api.addPod('alone', { owner: null })
    api.allows = ({ path }) => path !== '/api/v1/nodes/node1' || !refuses
    let refuses = false
    const world = await withNode(openWorld, kubernetes(api))
    const { context } = world
    await startLeaving(context, by, 'node1')
    await tend(world)
    refuses = true
    for (let time = 0; time < 2; time += 1) {
      t.match(await cancelLeaving(context, by, 'node1'), { state: 'cancelling' })
      await tend(world)
      t.match(await state(world), {
        state: 'cancelled',
        cordoned: true,
        cause: /^it may still be unschedulable: the Kubernetes API forbids/,
      })
    }
    refuses = false
    const requestsBefore = api.requests.length
    const kubeconfig = api.kubeconfig({ as: 'certificate' })
    await applyProfile(context, by, 'worker', profileWith(kubernetes(api, { kubeconfig })))
    await cancelLeaving(context, by, 'node1')
    await tend(world)
    t.match(await state(world), { state: 'cancelled', cordoned: false, cause: null })
    t.match(node(api), { spec: { unschedulable: false } })
    t.same(
      api.requests.slice(requestsBefore).map(({ method, user }) => ({ method, user })),
      [{ method: 'PATCH', user: 'pawl' }],
    )
    t.notOk((await world.dump()).includes(kubeconfig), 'sealed as before')
    await t.rejects(cancelLeaving(context, by, 'node1'), { code: 'conflict' })
    // A profile that knows no cluster any more leaves the hooks as they were.
    world.clock.advance(1)
    await startLeaving(context, by, 'node1')
    await tend(world)
    await applyProfile(context, by, 'worker', profileWith({}))
    await cancelLeaving(context, by, 'node1')
    await tend(world)
    t.match(node(api), { spec: { unschedulable: false } })
  })

  t.test('after a cancel was answered no step begins, and no further request of one under way', async (t) => {
    const api = await cluster(t)
    for (const name of ['web-1', 'web-2']) api.addPod(name)
    const world = await withNode(openWorld, kubernetes(api, { deleteNode: true }))
    const { context } = world
    const cancelsAt = (matches: (asked: AskedOfKubernetes) => boolean): void => {
      api.requests.length = 0
      api.answer = async (asked) => {
        if (!matches(asked)) return undefined
        api.answer = () => undefined
        api.requests.length = 0
        await cancelLeaving(context, by, 'node1')
        return undefined
      }
    }
    const only = async (expected: readonly string[], why: string): Promise<void> => {
      await startLeaving(context, by, 'node1')
      await tendLeavings(context)
      await tendLeavings(context)
      t.match(await state(world), { state: 'cancelling' }, why)
      const seen = api.requests.map(({ method }) => method).filter((method) => method !== 'GET')
      t.same(seen, expected, why)
      await tend(world)
      t.match(await state(world), { state: 'cancelled', cordoned: false }, why)
      t.match(node(api), { spec: { unschedulable: false } }, why)
      world.clock.advance(1)
    }
    cancelsAt(({ method, path }) => method === 'GET' && path === '/api/v1/pods')
    await only([], 'no eviction')
    cancelsAt(({ path }) => path.endsWith('/eviction'))
    await only([], 'no second eviction')
    for (const path of [...api.objects.keys()]) if (path.includes('/pods/')) api.objects.delete(path)
    cancelsAt(({ method, path }) => method === 'GET' && path === '/api/v1/pods')
    await only([], 'the object of the node stays')
    t.same(world.errors, [])
  })

  t.test(
    'a row that was read long ago is read anew before its step, and before its hook is called',
    async (t) => {
      const receiver = await startReceiver(t)
      const hook = { kind: 'webhook', url: receiver.url, secret, ca: receiver.ca }
      const world = await withNode(openWorld, { leave: hook, reboot: hook })
      const { context } = world
      const lanes = 16
      for (let node = 1; node <= lanes + 1; node += 1) {
        if (node > 1) await addNode(context, by, { name: `node${node}`, profile: 'worker' })
        await startLeaving(context, by, `node${node}`)
        world.clock.advance(1)
      }
      const last = `node${lanes + 1}`
      const cancelled = receiver.sent(lanes).then(async () => void (await cancelLeaving(context, by, last)))
      receiver.answer = () => ({ status: 200, hold: cancelled })
      await tendLeavings(context)
      const asked = receiver.received.map(({ body }) => JSON.parse(body).data.node)
      t.equal(asked.length, lanes)
      t.notOk(asked.includes(last), 'the one that was cancelled meanwhile')
      receiver.answer = () => ({ status: 202 })
      await tendLeavings(context) // from marked to rebooting
      const found = await findNode(context.storage.db, 'node1')
      const row = found && (await findLeaving(context.storage.db, found.id))
      if (row === undefined || found === undefined) throw new Error('it is not there')
      t.equal(row.state, 'rebooting')
      receiver.received.length = 0
      await cancelLeaving(context, by, 'node1')
      t.same(await hookStep(context, row, found, { kind: 'reboot', hook: { ...hook, kind: 'webhook' } }), {
        kind: 'overtaken',
      })
      t.same(receiver.received, [], 'no reboot of a node whose mark was taken back')
    },
  )

  t.test('a node with more pods than one pass evicts has each of them tried in turn', async (t) => {
    const api = await cluster(t)
    for (let pod = 0; pod < 50; pod += 1) api.addPod(`held-${pod}`)
    for (let pod = 0; pod < 20; pod += 1) api.addPod(`free-${pod}`)
    api.answer = ({ path }) =>
      /held-\d+\/eviction$/.test(path) ? status(429, 'TooManyRequests', 'budget') : undefined
    const world = await withNode(openWorld, kubernetes(api))
    await startLeaving(world.context, by, 'node1')
    await tend(world, 10)
    const left = [...api.objects.keys()].filter((path) => path.includes('/pods/free-'))
    t.same(left, [], 'budgets of the first fifty do not hold up the others')
  })

  t.test('what stands against removing a node is said as it is, whatever became of its object', async (t) => {
    const api = await cluster(t)
    const world = await withNode(openWorld, kubernetes(api))
    const { context } = world
    const meanwhile = (what: () => Promise<unknown>): void => {
      api.add({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' }, spec: {} })
      api.answer = async ({ method }) => {
        if (method === 'DELETE') await what()
        return undefined
      }
    }
    const { revision } = await showNode(context.storage.db, 'node1')
    meanwhile(() => changeNode(context, by, 'node1', { labels: { changed: 'meanwhile' } }))
    const precondition = { at: [revision] }
    await t.rejects(removeNodeAndObject(context, { ...by, precondition }, 'node1'), {
      code: 'precondition-failed',
    })
    for (const code of ['conflict', 'storage-unavailable'] as const) {
      let fails = false
      meanwhile(async () => {
        fails = true
      })
      const storage = new Proxy(context.storage, {
        get: (target, key) => {
          if (fails) throw new PawlError(code, 'what is in the way')
          return Reflect.get(target, key)
        },
      })
      await t.rejects(removeNodeAndObject({ ...context, storage }, by, 'node1'), {
        code,
        message: 'what is in the way',
      })
    }
    t.equal((await showNode(context.storage.db, 'node1')).name, 'node1')
    meanwhile(() => removeNode(context, by, 'node1'))
    await removeNodeAndObject(context, by, 'node1')
    await t.rejects(showNode(context.storage.db, 'node1'), { code: 'not-found' })
    t.equal(node(api), undefined)
  })
})

function checkMessages(t: Test, { received }: Receiver): void {
  const ids = new Set(
    received.map(({ headers, body }) => `${JSON.parse(body).type} ${headers['webhook-id']}`),
  )
  const types = new Set(received.map(({ body }) => JSON.parse(body).type))
  t.equal(ids.size, types.size, 'one message of each hook')
  for (const one of received) t.same(signersOf(one, [secret]), [0], 'signed')
  t.match(JSON.parse(received[0]?.body ?? ''), {
    type: 'leave',
    data: { node: 'node1', profile: 'worker', labels: {} },
  })
}
