import t from 'tap'
import type { By } from '../../src/fleet/change.ts'
import { showExtension, showExtensions } from '../../src/fleet/extension-view.ts'
import { applyExtension, removeExtension } from '../../src/fleet/extensions.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { exportFleet, listFleetSets } from '../../src/fleet/fleet-export.ts'
import type { FleetPlan, FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { showProfile } from '../../src/fleet/profiles.ts'
import { clientPair } from '../helpers/keys.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const jane: By = { ...root, actor: 'operator:jane' }
const nothing = { set: 'default', nodes: [], profiles: [], channels: [], extensions: [] } as const
const token = { operation: 'token', url: 'https://tokens.example.com/v2/token?key=hunter2' }
const worker = { name: 'worker', boot: 'local', extensions: ['token'] }

const apply = (world: World, request: FleetRequest, by: By = root): Promise<FleetPlan> =>
  applyFleet(world.context, by, request)
const dryRun = (world: World, request: FleetRequest, by: By = root): Promise<FleetPlan> =>
  apply(world, { ...request, dryRun: true }, by)
const counts = ({ counts }: FleetPlan): number[] => [counts.added, counts.changed, counts.removed]

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('an extension comes before the profile that names it, and goes behind it', async (t) => {
    const world = await openWorld()
    const both = { ...nothing, profiles: [worker], extensions: [token] }
    const planned = await dryRun(world, both)
    t.match(planned.changes, [
      {
        ...{ kind: 'extension', name: 'token', action: 'add' },
        fields: [{ field: 'url', before: null, after: 'https://tokens.example.com/v2/token?key=***' }],
      },
      { kind: 'profile', name: 'worker', action: 'add' },
    ])
    t.same(planned.changes[0]?.fields.length, 1, 'of a new one only what is no default')
    t.same(planned.warnings, [], 'the profile names what is there by then')
    t.same(await showExtensions(world.context), [], 'a dry run is taken back')
    t.same(counts(await apply(world, { ...both, plan: planned.plan })), [2, 0, 0])
    t.same(counts(await apply(world, both)), [0, 0, 0], 'a second time changes nothing')
    t.equal((await showExtension(world.context, 'token')).revision, 1)
    t.match(await listFleetSets(world.context.storage.db), [{ profiles: 1, extensions: 1 }])
    const alone = { ...nothing, profiles: [worker], prune: true }
    t.match((await dryRun(world, alone)).faults, [
      { kind: 'extension', name: 'token', message: /is allowed by profile "worker"/ },
    ])
    t.match(await errorOf(apply(world, alone)), { code: 'conflict' })
    t.same(counts(await apply(world, { ...nothing, prune: true })), [0, 0, 2])
    t.same(await showExtensions(world.context), [])
    t.match(await errorOf(showProfile(world.context.storage.db, 'worker')), { code: 'not-found' })
  })

  await t.test('a profile that names an operation no extension has is taken with a warning', async (t) => {
    const world = await openWorld()
    t.match((await apply(world, { ...nothing, profiles: [worker] })).warnings, [
      {
        name: 'worker',
        message: 'it allows token, which no extension is yet: nodes that ask for it are told 500',
      },
    ])
  })

  await t.test('what was named and is not is cleared; what never was is left alone', async (t) => {
    const world = await openWorld()
    const { certificate: clientCertificate, key: clientKey } = await clientPair()
    const whole = { ...token, timeoutSeconds: 5, answerTypes: ['text/plain'], clientCertificate, clientKey }
    await apply(world, { ...nothing, extensions: [whole] })
    await applyExtension(world.context, jane, 'token', { ...whole, maxAnswerBytes: 100 })
    t.same(counts(await apply(world, { ...nothing, extensions: [whole] })), [0, 0, 0])
    t.match(await showExtension(world.context, 'token'), { timeoutSeconds: 5, maxAnswerBytes: 100 })
    const plan = await apply(world, { ...nothing, extensions: [token] })
    t.match(
      plan.changes[0]?.fields.map(({ field, before, after }) => [field, before, after]),
      [
        ['timeoutSeconds', 5, 10],
        ['answerTypes', ['text/plain'], ['application/json', 'text/plain']],
        ['clientCertificate', [/^[0-9A-F:]{95}$/], null],
        ['clientKey', '***', null],
      ],
    )
    t.match(await showExtension(world.context, 'token'), {
      timeoutSeconds: 10,
      maxAnswerBytes: 100,
      clientKey: null,
    })
  })

  await t.test('a profile whose files say nothing of a field any more loses it', async (t) => {
    const world = await openWorld()
    const { db } = world.context.storage
    const reinstall = { stage2: 'small@1', stage3: 'full@1' }
    await apply(world, { ...nothing, profiles: [{ ...worker, reinstall }], extensions: [token] })
    const plan = await apply(world, {
      ...nothing,
      profiles: [{ name: 'worker', boot: 'local' }],
      extensions: [token],
    })
    t.same(
      plan.changes[0]?.fields.map(({ field, after }) => [field, after]),
      [
        ['extensions', null],
        ['reinstall.stage2', null],
        ['reinstall.stage3', null],
        ['reinstall.join.kind', null],
      ],
    )
    const { profile } = await showProfile(db, 'worker')
    t.notOk('extensions' in profile || 'reinstall' in profile)
    t.same(
      counts(await apply(world, { ...nothing, profiles: [{ name: 'worker', boot: 'local' }], prune: true })),
      [0, 0, 1],
    )
  })

  await t.test('what somebody changed since is told, with who it was', async (t) => {
    const world = await openWorld()
    await apply(world, { ...nothing, extensions: [{ ...token, timeoutSeconds: 5 }] })
    await applyExtension(world.context, jane, 'token', { ...token, timeoutSeconds: 9 })
    const plan = await dryRun(world, { ...nothing, extensions: [{ ...token, timeoutSeconds: 5 }] })
    t.match(plan.changes, [
      {
        action: 'change',
        fields: [
          {
            field: 'timeoutSeconds',
            before: 9,
            after: 5,
            drifted: true,
            changedBy: { actor: 'operator:jane' },
          },
        ],
      },
    ])
  })

  await t.test('a secret is told of, and never told', async (t) => {
    const world = await openWorld()
    const [one, other] = [await clientPair(), await clientPair()]
    const with_ = ({ certificate, key }: typeof one): FleetRequest => ({
      ...nothing,
      extensions: [{ ...token, clientCertificate: certificate, clientKey: key }],
    })
    const said = [await dryRun(world, with_(one)), await apply(world, with_(one))]
    t.match(said[0]?.changes[0]?.fields.at(-1), { field: 'clientKey', secret: true, after: null })
    const rekeyed = await apply(world, with_(other))
    t.match(
      rekeyed.changes[0]?.fields.map(({ field, secret }) => [field, secret]),
      [
        ['clientCertificate', false],
        ['clientKey', true],
      ],
    )
    const moved = { ...token, url: token.url.replace('hunter2', 'hunter3') }
    const [{ fields } = { fields: [] }] = (await apply(world, { ...nothing, extensions: [moved] })).changes
    t.match(fields[0], { field: 'url', secret: true, before: null, after: null })
    const kept = { ...token, url: 'https://tokens.example.com/v2/token?key=***' }
    t.same(
      counts(await apply(world, { ...nothing, extensions: [kept] })),
      [0, 0, 0],
      'what is shown keeps what is stored',
    )
    const fleet = await exportFleet(world.context, undefined)
    t.same(fleet.extensions, [kept])
    t.same(counts(await apply(world, { set: 'default', ...fleet })), [0, 0, 0])
    const all = JSON.stringify([said, rekeyed, fleet, await world.events(), await world.dump()])
    for (const secret of ['hunter2', 'hunter3', one.key.split('\n')[1] ?? '', other.key.split('\n')[1] ?? ''])
      t.notOk(all.includes(secret))
  })

  await t.test('they are an admin to change, and of one set', async (t) => {
    const world = await openWorld()
    const files = { ...nothing, extensions: [token] }
    t.match((await dryRun(world, files, ann)).faults, [
      { kind: 'extension', name: 'token', code: 'forbidden' },
    ])
    t.match(await errorOf(apply(world, files, ann)), { code: 'forbidden', message: /needs the role admin/ })
    await apply(world, files)
    t.same(counts(await apply(world, files, ann)), [0, 0, 0], 'nothing to change needs nobody')
    t.match(await errorOf(apply(world, { ...nothing, prune: true }, ann)), { code: 'forbidden' })
    t.match(await errorOf(apply(world, { ...files, set: 'eu' })), {
      code: 'conflict',
      message: /belongs to the set "default"/,
    })
    await apply(world, { ...files, set: 'eu', takeOver: true })
    t.match(await listFleetSets(world.context.storage.db), [
      { name: 'default', extensions: 0 },
      { name: 'eu', extensions: 1 },
    ])
    t.match(await errorOf(apply(world, { ...nothing, extensions: [token, token] })), {
      code: 'invalid',
      message: 'extension "token" is there twice',
    })
  })

  await t.test('a client that knows no extensions leaves those of its set alone', async (t) => {
    const world = await openWorld()
    await apply(world, { ...nothing, extensions: [token] })
    const { extensions: _, ...older } = nothing
    t.same(counts(await apply(world, { ...older, prune: true })), [0, 0, 0])
    t.equal((await showExtension(world.context, 'token')).revision, 1)
  })

  await t.test('one that was removed by hand has left its set', async (t) => {
    const world = await openWorld()
    await apply(world, { ...nothing, extensions: [token] })
    await removeExtension(world.context, root, 'token')
    await applyExtension(world.context, jane, 'token', { url: token.url })
    t.same(counts(await apply(world, { ...nothing, prune: true })), [0, 0, 0])
    t.equal((await showExtensions(world.context)).length, 1)
  })

  await t.test('a fault of one does nothing of all', async (t) => {
    const world = await openWorld()
    const files = {
      ...nothing,
      profiles: [worker],
      extensions: [token, { operation: 'bad', url: 'https://10.0.0.1/' }],
    }
    t.match((await dryRun(world, files)).faults, [
      { kind: 'extension', name: 'bad', message: '10.0.0.1 is not an address of the public Internet' },
    ])
    t.match(await errorOf(apply(world, files)), { code: 'invalid' })
    t.same(await showExtensions(world.context), [])
  })
})
