import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { expireSessions } from '../../src/boot/expire-sessions.ts'
import { tendCredentials } from '../../src/boot/remove-credentials.ts'
import type { By } from '../../src/fleet/change.ts'
import { disableNode, removeNode } from '../../src/fleet/nodes.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import {
  type JoiningSite,
  joinInVain,
  joiningOf,
  joiningProfile,
  openJoiningSite,
  outcomeOf,
  tokensAt,
} from '../helpers/joining.ts'
import { startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { askStage, boot, report } from '../helpers/machine.ts'
import { forEachDatabase, worldBegins } from '../helpers/world.ts'

/** Credentials that a cluster makes for one boot, against a stand-in for its API. */
const by: By = { actor: 'operator:test', source: null, role: 'admin' }
const secretsPath = '/api/v1/namespaces/kube-system/secrets'

/** The same kubeconfig without a CA. */
function withoutCa(text: string): string {
  const config = parse(text)
  delete config.clusters[0].cluster['certificate-authority-data']
  return stringify(config)
}

await forEachDatabase(t, async (t, openWorld) => {
  const open = (
    t: Test,
    settings: Readonly<Record<string, unknown>> = {},
    more: Parameters<typeof joiningOf>[0] = {},
  ): Promise<JoiningSite> => openJoiningSite(t, openWorld, { settings, more })

  await t.test('one is made at the first redemption, and dies with the boot', async (t) => {
    const { world, api, machine, learnt, join, end, counted } = await open(t, { ttlSeconds: 120 })
    t.same(tokensAt(api), [], 'nothing is made before')
    api.answer = () => {
      world.clock.advance(0.086)
      return undefined
    }
    const answer = await join()
    const [name = ''] = tokensAt(api)
    t.match(name, /^bootstrap-token-[a-z0-9]{6}$/)
    const object = api.objects.get(`${secretsPath}/${name}`) as {
      type: string
      metadata: object
      data: Record<string, string>
    }
    const data = Object.fromEntries(
      Object.entries(object.data).map(([field, value]) => [field, Buffer.from(value, 'base64').toString()]),
    )
    t.equal(object.type, 'bootstrap.kubernetes.io/token')
    t.match(object.metadata, { labels: { 'app.kubernetes.io/managed-by': 'pawl' } })
    t.match(data, {
      'token-id': name.slice(-6),
      'token-secret': /^[a-z0-9]{16}$/,
      expiration: '2026-11-21T06:02:00Z',
      'usage-bootstrap-authentication': 'true',
      'usage-bootstrap-signing': 'true',
      'auth-extra-groups': 'system:bootstrappers:kubeadm:default-node-token',
      description: `Pawl: node node1, boot session ${learnt.session}`,
    })
    t.match(answer, `${data['token-id']}.${data['token-secret']}`, 'the script has it')
    t.match(answer, /sha256:[0-9a-f]{64}/, 'and the hash of the CA in the kubeconfig')

    t.equal(await join(), answer, 'the same answer under the same key')
    t.equal(await outcomeOf(join('b'.repeat(22))), 'other-key')
    t.equal(api.requests.filter(({ method }) => method === 'POST').length, 1, 'made once')
    const stored = await world.dump()
    t.notMatch(stored, data['token-secret'], 'its secret is nowhere in clear')
    t.match(stored, name.slice(-6))

    await report(world, machine, learnt.report, 'success')
    await end()
    t.same(tokensAt(api), [], 'gone with the report of success')
    t.same(await world.context.storage.db.selectFrom('join_credentials').selectAll().execute(), [])
    const kinds = await world.kinds({ session: learnt.session })
    // A refusal is written behind, at its own time.
    t.same(
      kinds.filter((kind) => kind !== 'refused'),
      [
        ...['session-opened', 'handover-opened', 'stage2-redeemed', 'stage3-redeemed'],
        ...['credential-made', 'join-redeemed', 'answer-repeated', 'session-ready'],
        'credential-removed',
      ],
    )
    t.same(counted, ['make done', 'remove done'])
    const [made] = await world.events({ kind: 'credential-made' })
    t.equal(made?.detail.milliseconds, 86, 'an event says how long the cluster took')
  })

  await t.test('a cluster that does not do it spends nothing, and is told once', async (t) => {
    const { world, api, learnt, join, counted } = await open(t)
    api.answer = () => ({ status: 503, headers: { 'retry-after': '7' }, body: {} })
    for (const _ of [1, 2, 3]) t.match(await outcomeOf(join()), /^join-unavailable: the join waits: .*503/)
    api.answer = () => undefined
    api.allows = () => false
    t.match(await outcomeOf(join()), /^join-unavailable: .*403/)
    api.allows = () => true
    t.match(await join(), /join-kubeadm/, 'then it is let in, by the same token')
    t.equal(tokensAt(api).length, 1)
    const refused = await world.events({ session: learnt.session, kind: 'credential-refused' })
    t.same(
      refused.map(({ detail }) => detail.cause),
      ['failing', 'forbidden'],
      'one event for each cause, not one for each try',
    )
    const timeline = await timelineOf(world.context, 'node1')
    const spans = timeline.stages.flatMap(({ spans }) => spans.filter(({ kind }) => kind === 'refused'))
    t.equal(spans.length, 4, 'the timeline has the tries')
    t.match(spans[0]?.detail, /^join: the Kubernetes API answered 503/)
    t.same(counted, ['make failing', 'make failing', 'make failing', 'make forbidden', 'make done'])
    t.notMatch(JSON.stringify(await world.events()), 'stand-in-token', 'no event has the account’s token')
  })

  await t.test('an API that hangs is given up, and what it did all the same is the same one', async (t) => {
    const site = await open(t)
    const { api, join } = site
    api.answer = (asked) => {
      if (asked.method !== 'POST') return undefined
      // It does it, and its answer is lost.
      api.add({ ...asked.body, kind: 'Secret' })
      return 'hang'
    }
    t.match(await joinInVain(site, () => tokensAt(api).length > 0), /^join-unavailable: .*in time/)
    const made = tokensAt(api)
    t.equal(made.length, 1)
    api.answer = () => undefined
    await join()
    t.same(tokensAt(api), made, 'one, and the same one')
  })

  await t.test('a name that is somebody else’s is left alone', async (t) => {
    const { api, join } = await open(t)
    let first: string | undefined
    api.answer = (asked) => {
      if (asked.method !== 'POST' || first !== undefined) return undefined
      first = (asked.body as { metadata: { name: string } }).metadata.name
      api.add({ kind: 'Secret', metadata: { name: first, namespace: 'kube-system' }, of: 'somebody' })
      return undefined
    }
    await join()
    t.equal(tokensAt(api).length, 2)
    t.match(api.objects.get(`${secretsPath}/${first}`), { of: 'somebody' }, 'it still stands')
  })

  await t.test('many redemptions at once make one', async (t) => {
    const { world, api, machine, learnt } = await open(t)
    // Two processes: they share the database and nothing else.
    const other = { ...world, context: { ...world.context, joining: joiningOf({ clock: world.clock.now }) } }
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        outcomeOf(askStage(at % 2 === 0 ? world : other, machine, 'join', learnt.join)),
      ),
    )
    t.equal(outcomes.filter((outcome) => outcome === 'answered').length, 1)
    for (const outcome of new Set(outcomes))
      t.match(outcome, /^answered$|^spent-token$|^join-unavailable: .*another request/)
    t.equal(tokensAt(api).length, 1)
    t.equal((await world.kinds({ kind: 'credential-made' })).length, 1)
  })

  await t.test('whatever ends the boot removes it', async (t) => {
    const ends: Record<string, (site: JoiningSite) => Promise<unknown>> = {
      fail: ({ world, machine, learnt }) =>
        report(world, machine, learnt.report, 'error: no', { final: true }),
      expire: ({ world }) => {
        world.clock.advance(7201)
        return expireSessions(world.context)
      },
      supersede: ({ world, machine }) => boot(world, machine, 'stage1'),
      disable: ({ world }) => disableNode(world.context, by, 'node1'),
      remove: ({ world }) => removeNode(world.context, by, 'node1'),
    }
    for (const [what, end] of Object.entries(ends)) {
      const site = await open(t)
      await site.join()
      t.equal(tokensAt(site.api).length, 1)
      await end(site)
      await site.end()
      t.same(tokensAt(site.api), [], what)
      t.equal((await site.world.kinds({ kind: 'credential-removed' })).length, 1, what)
    }
  })

  await t.test('a removal that fails is tried again until it is gone', async (t) => {
    const { world, api, machine, learnt, join, end } = await open(t)
    await join()
    api.answer = ({ method }) => (method === 'DELETE' ? { status: 500, body: {} } : undefined)
    await report(world, machine, learnt.report, 'success')
    await end()
    t.equal(tokensAt(api).length, 1)
    await tendCredentials(world.context)
    t.equal(api.requests.filter(({ method }) => method === 'DELETE').length, 1, 'not before its time')
    for (const _ of [1, 2]) {
      world.clock.advance(61)
      await tendCredentials(world.context)
    }
    t.equal((await world.kinds({ kind: 'credential-not-removed' })).length, 1, 'told once')
    api.answer = () => undefined
    world.clock.advance(61)
    await tendCredentials(world.context)
    t.same(tokensAt(api), [])
    t.equal((await world.kinds({ kind: 'credential-removed' })).length, 1)
  })

  await t.test('many at once are removed, and none is told of as failed', async (t) => {
    const { world, api, machine, learnt, join, end } = await open(t)
    await join()
    const { db } = world.context.storage
    const row = await db.selectFrom('join_credentials').selectAll().executeTakeFirstOrThrow()
    const gone = { removal: 'fail', remove_at: worldBegins.toISOString() }
    const others = Array.from({ length: 59 }, (_, n) => ({ ...row, ...gone, session: `other-${n}` }))
    await db.insertInto('join_credentials').values(others).execute()
    await report(world, machine, learnt.report, 'success')
    await end()
    t.same(await db.selectFrom('join_credentials').select('session').execute(), [])
    t.same(tokensAt(api), [])
    t.equal((await world.kinds({ kind: 'credential-removed' })).length, 60)
    t.same(await world.kinds({ kind: 'credential-not-removed' }), [])
  })

  await t.test('one there is no room for waits: that is no failure and no try', async (t) => {
    const { world, api, machine, learnt, join, end, counted } = await open(t)
    await join()
    const held = Promise.withResolvers<void>()
    const { joining } = world.context
    const host = new URL(api.url).host
    const calls = Array.from({ length: 34 }, () => joining?.removing.run(host, () => held.promise))
    await report(world, machine, learnt.report, 'success')
    await end()
    const { db } = world.context.storage
    const row = await db.selectFrom('join_credentials').selectAll().executeTakeFirstOrThrow()
    t.match(row, { removal: 'success', removal_tries: 0 })
    t.same(await world.kinds({ kind: 'credential-not-removed' }), [])
    t.same(counted, ['make done'])
    held.resolve()
    await Promise.all(calls)
    await tendCredentials(world.context)
    t.equal(tokensAt(api).length, 1, 'not at once')
    world.clock.advance(6)
    await tendCredentials(world.context)
    t.same(tokensAt(api), [])
  })

  await t.test('it is removed by the account as it was mended', async (t) => {
    const { world, api, machine, learnt, join, end, counted } = await open(t)
    await join()
    api.allows = ({ user }) => user === 'pawl'
    await report(world, machine, learnt.report, 'success')
    await end()
    t.match(await world.events({ kind: 'credential-not-removed' }), [{ detail: { cause: 'forbidden' } }])
    t.same(counted, ['make done', 'remove forbidden'], 'the same account is not asked twice')
    const mended = joiningProfile(api, { kubeconfig: api.kubeconfig({ as: 'certificate' }) })
    await applyProfile(world.context, by, 'demo', { ...mended, acceptUnsigned: true })
    world.clock.advance(61)
    await tendCredentials(world.context)
    t.same(tokensAt(api), [])
    t.same(counted.slice(2), ['remove forbidden', 'remove done'])
  })

  await t.test('one whose time is over is given up', async (t) => {
    const { world, api, machine, learnt, join, end } = await open(t)
    await join()
    api.answer = ({ method }) => (method === 'DELETE' ? { status: 500, body: {} } : undefined)
    await report(world, machine, learnt.report, 'success')
    await end()
    world.clock.advance(300 + 601)
    await tendCredentials(world.context)
    const [removed] = await world.events({ kind: 'credential-removed' })
    t.match(removed?.detail, { because: 'its time was over', cause: 'success' })
  })

  await t.test('one that is made while its boot ends is removed behind that', async (t) => {
    const { world, api, join, end } = await open(t)
    api.answer = async (asked) => {
      if (asked.method !== 'POST') return undefined
      // The boot ends in the middle of the call, and the removal comes before the cluster has made it.
      await disableNode(world.context, by, 'node1')
      await world.context.joining?.settled()
      return undefined
    }
    t.equal(await outcomeOf(join()), 'session-ended')
    t.equal(tokensAt(api).length, 1, 'the cluster has made it')
    // A make of four calls of five seconds each, and what may be carried out late of it.
    world.clock.advance(146)
    await tendCredentials(world.context)
    await end()
    t.same(tokensAt(api), [])
  })

  await t.test('a session that was forgotten leaves none', async (t) => {
    const { world, api, learnt, join } = await open(t)
    await join()
    const { db } = world.context.storage
    await db
      .updateTable('sessions')
      .set({ state: 'failed', cause: 'by hand', ended_at: worldBegins.toISOString() })
      .where('id', '=', learnt.session)
      .execute()
    await tendCredentials(world.context)
    t.same(tokensAt(api), [])
  })

  await t.test('nodes that wait go on when the account is mended', async (t) => {
    const { world, api, join } = await open(t)
    api.allows = () => false
    t.match(await outcomeOf(join()), /403/)
    const mended = joiningProfile(api, { kubeconfig: api.kubeconfig({ as: 'certificate' }) })
    await applyProfile(world.context, by, 'demo', { ...mended, acceptUnsigned: true })
    api.allows = ({ user }) => user === 'pawl'
    t.match(await join(), /join-kubeadm/)
  })

  await t.test('what a kubeconfig itself tells is told when the profile is applied', async (t) => {
    const api = await startKubernetesApi(t)
    const world = await openWorld({ joining: joiningOf() })
    await storeDemoFleet(world)
    const bad = `sha256:${'0'.repeat(64)}`
    const token = 'abcdef.0123456789abcdef'
    const config = api.kubeconfig()
    const table: [what: string, settings: Record<string, unknown>, says: RegExp][] = [
      ['both', { token }, /settings\.kubeconfig stands beside a token/],
      ['neither', { kubeconfig: undefined }, /settings\.token is missing/],
      [
        'a group for one token',
        { kubeconfig: undefined, token, caCertHash: bad, group: 'system:bootstrappers:x' },
        /settings\.group/,
      ],
      [
        'no CA',
        { kubeconfig: withoutCa(config) },
        /boot\.join\.settings\.kubeconfig .*certificate-authority-data/,
      ],
      ['http', { kubeconfig: config.replace('https:', 'http:') }, /settings\.kubeconfig .*https/],
      [
        'an exec plugin',
        { kubeconfig: config.replace(/token: .*/, 'exec: { command: aws }') },
        /settings\.kubeconfig .*program/,
      ],
      [
        'an expired certificate',
        { kubeconfig: api.kubeconfig({ as: 'expired-certificate' }) },
        /settings\.kubeconfig has a client certificate that ended/,
      ],
      [
        'two faults',
        { kubeconfig: api.kubeconfig({ as: 'expired-certificate' }), caCertHash: bad },
        /kubeconfig has a client certificate that ended at \S+; boot\.join\.settings\.caCertHash is not that/,
      ],
      ['another CA’s hash', { caCertHash: bad }, /settings\.caCertHash is not that of the CA/],
      ['another group', { group: 'system:masters' }, /settings/],
      ['too short a life', { ttlSeconds: 5 }, /ttlSeconds/],
    ]
    for (const [what, settings, says] of table) {
      const profile = JSON.parse(JSON.stringify(joiningProfile(api, settings)))
      t.match(await outcomeOf(applyProfile(world.context, by, 'demo', profile)), says, what)
    }
    const many = {
      ...joiningProfile(api, { kubeconfig: 'nonsense' }),
      leave: { kind: 'kubernetes', kubeconfig: 'nonsense' },
    }
    t.equal(
      await outcomeOf(applyProfile(world.context, by, 'demo', many)),
      'invalid: profile "demo": boot.join.settings.kubeconfig is not a mapping; leave.kubeconfig: is not a mapping',
      'all of it at once',
    )
    const applied = await applyProfile(world.context, by, 'demo', joiningProfile(api))
    t.match(applied.profile, { boot: { join: { settings: { kubeconfig: '***' } } } })
    t.notMatch(await world.dump(), 'stand-in-token', 'the kubeconfig is sealed')
    t.same(api.requests, [], 'the cluster was not asked for any of it')
  })

  await t.test('a storm holds few calls, and sends the others away', async (t) => {
    const limits = { calls: 2, waiting: 3 }
    const { world, api, counted, machine, learnt } = await open(t, {}, { limits })
    const { joining } = world.context
    let now = 0
    let most = 0
    const call = async (): Promise<void> => {
      now += 1
      most = Math.max(most, now)
      await new Promise((resolve) => setImmediate(resolve))
      now -= 1
    }
    const ends = await Promise.allSettled([
      ...Array.from({ length: 40 }, () => joining?.making.run(new URL(api.url).host, call)),
      askStage(world, machine, 'join', learnt.join),
    ])
    const last = ends.at(-1)
    t.match(
      last?.status === 'rejected' ? String(last.reason) : 'answered',
      /^answered$|the join waits: as many joins/,
    )
    const sent = ends.slice(0, 40).filter(({ status }) => status === 'rejected').length
    t.equal(most, 2)
    t.equal(sent, 35, 'two were served and three waited')
    t.ok(counted.length <= 2)
  })
})
