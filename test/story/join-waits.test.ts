import t, { type Test } from 'tap'
import { expireSessions } from '../../src/boot/expire-sessions.ts'
import { tendCredentials } from '../../src/boot/remove-credentials.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import {
  type JoiningSite,
  joinInVain,
  joinKey,
  openJoiningSite,
  outcomeOf,
  tokensAt,
  withLostKey,
} from '../helpers/joining.ts'
import type { AskedOfKubernetes } from '../helpers/kubernetes-api.ts'
import { askStage, report } from '../helpers/machine.ts'
import { forEachDatabase } from '../helpers/world.ts'

/** What becomes of a boot, and of its credential, whose cluster does not do it, does it late, or was not asked. */
await forEachDatabase(t, async (t, openWorld) => {
  const open = (t: Test, options: Parameters<typeof openJoiningSite>[2] = {}): Promise<JoiningSite> =>
    openJoiningSite(t, openWorld, options)

  await t.test('a node that waits for its cluster is alive, however long it waits', async (t) => {
    const { world, api, join, learnt } = await open(t, { world: { settings: { sessionIdleSeconds: 1800 } } })
    api.answer = () => ({ status: 503, body: {} })
    for (const _ of [1, 2, 3, 4, 5]) {
      world.clock.advance(1200)
      await expireSessions(world.context)
      t.match(await outcomeOf(join()), /^join-unavailable: .*503/)
    }
    api.answer = () => undefined
    t.match(await join(), /join-kubeadm/, 'an hour and forty minutes later')
    t.notOk((await world.kinds({ session: learnt.session })).includes('session-expired'))
  })

  await t.test(
    'calls are bounded by the API that is asked, not by the endpoint nodes are told',
    async (t) => {
      const { world, api, join } = await open(t, {
        settings: { endpoint: 'cluster.example.test:6443' },
        more: { limits: { calls: 1, waiting: 0 } },
      })
      const { joining } = world.context
      const held = Promise.withResolvers<void>()
      const others = joining?.making.run('cluster.example.test:6443', () => held.promise)
      t.match(await join(), /join-kubeadm/, 'what only has the endpoint’s name is another API')
      const same = joining?.making.run(new URL(api.url).host, () => held.promise)
      const second = await open(t, {
        settings: {
          endpoint: 'other.example.test:6443',
          kubeconfig: api.kubeconfig({ server: `${api.url}/` }),
        },
      })
      const context = { ...second.world.context, ...(joining === undefined ? {} : { joining }) }
      const asked = askStage({ ...second.world, context }, second.machine, 'join', second.learnt.join)
      t.match(await outcomeOf(asked), /^join-unavailable: .*as many joins as may wait for this cluster/)
      held.resolve()
      await Promise.all([others, same])
    },
  )

  await t.test('a key that does not open the kubeconfig is told as its cause', async (t) => {
    const { world, api, counted, learnt, machine, join } = await open(t)
    const lost = withLostKey(world, () => true)
    for (const _ of [1, 2])
      t.match(
        await outcomeOf(askStage(lost, machine, 'join', learnt.join, joinKey)),
        /^join-unavailable: the join waits: secret setting profile\/demo\/boot\/join\/kubeconfig cannot be opened with this server's key: restore pki\/settings.key .*applied again$/,
      )
    t.same(counted, ['make settings', 'make settings'])
    t.same(api.requests, [], 'the cluster was not asked')
    t.match(await world.events({ kind: 'credential-refused' }), [
      { session: learnt.session, detail: { cause: 'settings', message: /restore pki\/settings.key/ } },
    ])
    const { stages } = await timelineOf(world.context, 'node1')
    const told = stages.flatMap(({ spans }) => spans.filter(({ kind }) => kind === 'refused'))
    t.match(told[0]?.detail, /^join: secret setting .*restore pki\/settings.key/)
    t.match(await join(), /join-kubeadm/, 'nothing was held: with the key it goes on at once')
  })

  await t.test('causes that take turns are told once each', async (t) => {
    const { world, api, learnt, join } = await open(t)
    for (const status of [503, 403, 503, 422, 403, 503]) {
      api.answer = () => ({ status, body: {} })
      t.match(await outcomeOf(join()), /^join-unavailable/)
    }
    const events = await world.events({ session: learnt.session, kind: 'credential-refused' })
    t.same(
      events.map(({ detail }) => detail.cause),
      ['failing', 'forbidden', 'refused'],
    )
  })

  /** An API that hangs on what makes a credential; what it carries out later is told by the caller. */
  function hangOnMake({ api }: JoiningSite): AskedOfKubernetes[] {
    const held: AskedOfKubernetes[] = []
    api.answer = (asked) => {
      if (asked.method !== 'POST') return undefined
      held.push(asked)
      return 'hang'
    }
    return held
  }

  await t.test('what a cluster makes behind a call that was given up is removed all the same', async (t) => {
    const site = await open(t)
    const { world, api, machine, learnt, end } = site
    const held = hangOnMake(site)
    t.match(await joinInVain(site, () => held.length > 0), /in time/)
    api.answer = () => undefined
    await report(world, machine, learnt.report, 'it cannot join', { final: true })
    await end()
    t.equal(api.requests.filter(({ method }) => method === 'DELETE').length, 1, 'it was looked for at once')
    t.same(await world.kinds({ kind: 'credential-removed' }), [], 'and what was not there was not removed')
    // Only now does the cluster carry it out.
    api.add({ ...held[0]?.body, kind: 'Secret' })
    world.clock.advance(119)
    await tendCredentials(world.context)
    t.equal(tokensAt(api).length, 1, 'not before it must have')
    world.clock.advance(27)
    await tendCredentials(world.context)
    t.same(tokensAt(api), [])
    t.match(await world.events({ kind: 'credential-removed' }), [{ detail: { cause: 'fail', unseen: true } }])
    t.same(await world.context.storage.db.selectFrom('join_credentials').selectAll().execute(), [])
  })

  await t.test('so is what it makes anew behind a removal', async (t) => {
    const site = await open(t)
    const { world, api, machine, learnt, join, end } = site
    const held = hangOnMake(site)
    t.match(await joinInVain(site, () => held.length > 0), /in time/)
    api.answer = () => undefined
    t.match(await join(), /join-kubeadm/, 'the next call makes it')
    await report(world, machine, learnt.report, 'success')
    await end()
    t.same(tokensAt(api), [])
    t.equal((await world.kinds({ kind: 'credential-removed' })).length, 1)
    api.add({ ...held[0]?.body, kind: 'Secret' })
    world.clock.advance(121)
    await tendCredentials(world.context)
    t.same(tokensAt(api), [])
    const [first, second] = await world.events({ kind: 'credential-removed' })
    t.match([first?.detail.unseen, second?.detail.unseen], [undefined, true])
    t.same(await world.context.storage.db.selectFrom('join_credentials').selectAll().execute(), [])
  })

  await t.test(
    'a removal that the cluster carries out late takes no token that was made since',
    async (t) => {
      const site = await open(t)
      const { api, join } = site
      api.answer = (asked) => {
        if (asked.method !== 'POST') return undefined
        api.carryOut(asked)
        return 'hang'
      }
      t.match(await joinInVain(site, () => tokensAt(api).length > 0), /in time/)
      const held: AskedOfKubernetes[] = []
      api.answer = (asked) => {
        if (asked.method !== 'DELETE' || asked.body?.dryRun !== undefined) return undefined
        held.push(asked)
        return 'hang'
      }
      t.match(await joinInVain(site, () => held.length > 0), /in time/)
      api.answer = () => undefined
      t.match(await join(), /join-kubeadm/)
      const made = tokensAt(api)
      t.equal(made.length, 1)
      t.equal(held.map((asked) => api.carryOut(asked).status).join(), '409')
      t.same(tokensAt(api), made, 'the node has its token still')
    },
  )

  await t.test('one that nobody ever saw is looked for twice, and told of by nothing', async (t) => {
    const site = await open(t)
    const { world, api, machine, learnt, end } = site
    const held = hangOnMake(site)
    t.match(await joinInVain(site, () => held.length > 0), /in time/)
    api.answer = () => undefined
    await report(world, machine, learnt.report, 'it cannot join', { final: true })
    await end()
    for (const _ of [1, 2, 3]) {
      world.clock.advance(146)
      await tendCredentials(world.context)
    }
    t.equal(api.requests.filter(({ method }) => method === 'DELETE').length, 2)
    t.same(await world.kinds({ kind: 'credential-removed' }), [])
    t.same(await world.context.storage.db.selectFrom('join_credentials').selectAll().execute(), [])
  })
})
