import t from 'tap'
import { expireSessions } from '../../src/boot/expire-sessions.ts'
import { serveSeed } from '../../src/boot/serve-seed.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import {
  joinInVain,
  joiningProfile,
  joinKey,
  openJoiningSite,
  outcomeOf,
  tokensAt,
  withLostKey,
} from '../helpers/joining.ts'
import {
  askStage,
  askStage1,
  boot,
  type Learnt,
  type Machine,
  machineOf,
  report,
} from '../helpers/machine.ts'
import { root } from '../helpers/operators.ts'
import { forEachDatabase, servedTemplates, type World, type WorldOptions } from '../helpers/world.ts'

/** What becomes of joins whose secrets the server's key does not open any more. */
const token = (last: string): string => `K10${'0'.repeat(63)}${last}::${'s'.repeat(30)}${last}`
const k3s = (settings: Readonly<Record<string, unknown>> = {}): Record<string, unknown> => ({
  kind: 'k3s',
  settings: { server: 'https://k3s.example.test:6443', token: token('1'), ...settings },
})
const config = '{"ignition":{"version":"3.4.0"}}'

const inOneLine = (setting: string): RegExp =>
  new RegExp(
    `^join-unavailable: the join waits: secret setting profile/demo/boot/join/${setting} cannot be opened with this server's key: restore pki/settings.key .*applied again$`,
  )

await forEachDatabase(t, async (t, openWorld) => {
  interface Site {
    readonly world: World
    readonly machine: Machine
    apply(join: Record<string, unknown>, world?: World): Promise<unknown>
  }

  async function open(join: Record<string, unknown>, options: WorldOptions = {}): Promise<Site> {
    const world = await openWorld({ ...options, settings: { loopStage1s: 0, ...options.settings } })
    const secret = await storeDemoFleet(world)
    const apply: Site['apply'] = (join, at = world) =>
      applyProfile(at.context, root, 'demo', {
        ...{ name: 'demo', evidence: ['secret'], acceptUnsigned: true },
        boot: { stage2: 'small@1', stage3: 'full@1', join },
      })
    await apply(join)
    return { world, machine: machineOf(secret), apply }
  }

  const joinAt = (world: World, machine: Machine, learnt: Learnt): Promise<string> =>
    askStage(world, machine, 'join', learnt.join, joinKey).then(({ text }) => text)

  await t.test('a static join waits, says why once a boot, and goes on with the key', async (t) => {
    const { world, machine } = await open(k3s(), { settings: { sessionIdleSeconds: 600 } })
    const lost = withLostKey(world, () => true)
    const learnt = await boot(lost, machine, 'stage3')
    for (const _ of [1, 2, 3]) {
      world.clock.advance(500)
      t.match(await outcomeOf(joinAt(lost, machine, learnt)), inOneLine('token'))
      await expireSessions(lost.context)
    }
    const events = await world.events({ session: learnt.session, kind: 'credential-refused' })
    t.equal(events.length, 1, 'one event, not one for each try')
    t.match(events[0]?.detail, {
      kind: 'k3s',
      profile: 'demo',
      cause: 'settings',
      message: /pki\/settings.key/,
    })
    const { stages } = await timelineOf(world.context, 'node1')
    const spans = stages.flatMap(({ spans }) => spans.filter(({ kind }) => kind === 'refused'))
    t.equal(spans.length, 3, 'the timeline has the tries')
    t.match(spans[0]?.detail, /^join: secret setting profile\/demo\/boot\/join\/token cannot be opened/)
    t.notMatch(JSON.stringify([await world.events(), stages]), /sss|sealed:/, 'and nothing of the secret')
    t.match(await joinAt(world, machine, learnt), token('1'), 'nothing was spent')
    t.equal(
      await joinAt(lost, machine, learnt),
      await joinAt(world, machine, learnt),
      'what is answered stays',
    )
  })

  await t.test('it goes on when its profile is applied again, if only secrets differ', async (t) => {
    const { world, machine, apply } = await open(k3s())
    const lost = withLostKey(world, () => true)
    const learnt = await boot(lost, machine, 'stage3')
    await apply(k3s({ token: token('2'), server: 'https://other.example.test:6443' }), lost)
    t.match(
      await outcomeOf(joinAt(lost, machine, learnt)),
      inOneLine('token'),
      'another cluster is another join',
    )
    await apply(k3s({ token: token('2') }), lost)
    t.match(await joinAt(lost, machine, learnt), token('2'))
  })

  await t.test('what was pinned is what is given wherever it opens', async (t) => {
    const { world, machine, apply } = await open(k3s())
    const learnt = await boot(world, machine, 'stage3')
    await apply(k3s({ token: token('2') }))
    t.match(await joinAt(world, machine, learnt), token('1'))
  })

  await t.test("an overlay's secret that does not open: no cluster is asked for a credential", async (t) => {
    const site = await openJoiningSite(t, openWorld)
    const { world, api } = site
    const applyOverlay = (authKey: string, at: World): Promise<unknown> => {
      const { boot, ...profile } = joiningProfile(api) as unknown as { name: string; boot: { join: object } }
      const join = { ...boot.join, overlay: { kind: 'tailscale', authKey } }
      const changed = { ...profile, boot: { ...boot, join }, acceptUnsigned: true }
      return applyProfile(at.context, root, 'demo', changed)
    }
    await applyOverlay('tskey-auth-one', world)
    const context = { ...world.context, templates: servedTemplates() }
    const lost = withLostKey({ ...world, context }, (place) => place.endsWith('/overlay.authKey'))
    const machine = machineOf(String(site.machine.fields.secret))
    const learnt = await boot(world, machine, 'stage3')
    t.match(await outcomeOf(joinAt(lost, machine, learnt)), inOneLine('overlay.authKey'))
    t.same(api.requests, [])
    await applyOverlay('tskey-auth-two', lost)
    t.match(await joinAt(lost, machine, learnt), Buffer.from('tskey-auth-two\n').toString('base64'))
    t.equal(tokensAt(api).length, 1)
  })

  await t.test(
    'a kubeconfig that was applied again joins boots that were pinned to the lost one',
    async (t) => {
      const { world, api, machine, learnt } = await openJoiningSite(t, openWorld)
      const lost = withLostKey(world, () => true)
      t.match(await outcomeOf(joinAt(lost, machine, learnt)), inOneLine('kubeconfig'))
      await applyProfile(lost.context, root, 'demo', { ...joiningProfile(api), acceptUnsigned: true })
      t.match(await joinAt(lost, machine, learnt), /join-kubeadm/)
      t.equal(tokensAt(api).length, 1)
    },
  )

  await t.test(
    'a credential whose own seal does not open was given to nobody: another is made',
    async (t) => {
      const { world, api, machine, learnt, join, end } = await openJoiningSite(t, openWorld)
      api.answer = () => ({ status: 403, body: {} })
      t.match(await outcomeOf(join()), /^join-unavailable/)
      api.answer = () => undefined
      const before = await world.context.storage.db
        .selectFrom('join_credentials')
        .selectAll()
        .executeTakeFirstOrThrow()
      const lost = withLostKey(world, (place) => place.startsWith('join-credential/'))
      const answer = await joinAt(lost, machine, learnt)
      t.same(tokensAt(api), [`bootstrap-token-${before.handle}`], 'under the same name')
      const secret = secretAt(api.objects, before.handle)
      t.match(answer, `${before.handle}.${secret}`)
      t.not(secret, world.context.sealer.open(before.sealed, `join-credential/${learnt.session}`))
      t.equal(await joinAt(lost, machine, learnt), answer, 'the same answer under the same key')
      t.equal(await outcomeOf(askStage(lost, machine, 'join', learnt.join, 'b'.repeat(22))), 'other-key')
      await report(world, machine, learnt.report, 'success')
      await end()
      t.same(tokensAt(api), [])
    },
  )

  await t.test('where the cluster may have made the first, that one is removed before', async (t) => {
    const site = await openJoiningSite(t, openWorld)
    const { world, api, machine, learnt, end } = site
    api.answer = (asked) => {
      if (asked.method !== 'POST') return undefined
      api.add({ ...asked.body, kind: 'Secret' })
      return 'hang'
    }
    t.match(await joinInVain(site, () => tokensAt(api).length > 0), /in time/)
    const [name = ''] = tokensAt(api)
    const first = secretAt(api.objects, name.slice(-6))
    api.answer = () => undefined
    const lost = withLostKey(world, (place) => place.startsWith('join-credential/'))
    const answer = await joinAt(lost, machine, learnt)
    t.same(tokensAt(api), [name], 'one, and under the same name')
    const second = secretAt(api.objects, name.slice(-6))
    t.not(second, first)
    t.match(answer, second)
    t.notMatch(answer, first)
    await report(world, machine, learnt.report, 'success')
    await end()
    t.same(tokensAt(api), [])
  })

  await t.test('Ignition: refused at stage 1 with the reason; behind it nothing is spent', async (t) => {
    const { world, machine } = await open({ kind: 'ignition', settings: { secretConfig: config } })
    const lost = withLostKey(world, () => true)
    t.equal(await outcomeOf(askStage1(lost, machine)), 'does-not-fit')
    const refused = (await world.events({ kind: 'refused' })).at(-1)
    t.match(
      refused?.detail.reason,
      /^secret setting profile\/demo\/boot\/join\/secretConfig cannot be opened/,
    )
    const learnt = await boot(world, machine, 'handover')
    const stage2 = (at: World) => askStage(at, machine, 'stage2', learnt.stage2, joinKey)
    t.match(await outcomeOf(stage2(lost)), inOneLine('secretConfig'))
    const { document } = await stage2(world)
    const url = String(document.args).replace(/^.*ignition\.config\.url=/, '')
    const ask = (at: World): Promise<string> =>
      serveSeed(at.context, {
        ...{ host: 'node1', source: '192.0.2.10', request: 'ignition', of: 'ignition', file: 'config' },
        token: url.split('/').at(-2) ?? '',
      })
    for (const _ of Array.from({ length: 20 })) t.match(await outcomeOf(ask(lost)), inOneLine('secretConfig'))
    t.same(JSON.parse(await ask(world)), JSON.parse(config), 'tries in vain are not counted')
    t.equal((await world.kinds({ kind: 'credential-refused' })).length, 1)
  })
})

/** The secret half of a bootstrap token. */
function secretAt(objects: ReadonlyMap<string, Record<string, unknown>>, handle: string): string {
  const object = objects.get(`/api/v1/namespaces/kube-system/secrets/bootstrap-token-${handle}`)
  const { 'token-secret': secret = '' } = (object?.data ?? {}) as Record<string, string>
  return Buffer.from(secret, 'base64').toString()
}
