import t from 'tap'
import { parseChannelRef } from '../../src/domain/channel.ts'
import type { By } from '../../src/fleet/change.ts'
import { move, protectChannel, showChannel } from '../../src/fleet/channels.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import type { FleetPlan, FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { pageOfNodes, showNode } from '../../src/fleet/node-view.ts'
import { addNode, changeNode, removeNode } from '../../src/fleet/nodes.ts'
import { applyProfile, showProfile } from '../../src/fleet/profiles.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const nothing = { set: 'default', nodes: [], profiles: [], channels: [] } as const
const admin: By = { ...ann, actor: 'operator:root', role: 'admin' }
const jane: By = { ...ann, actor: 'operator:jane' }
const join = {
  kind: 'kubeadm',
  settings: {
    endpoint: '192.0.2.1:6443',
    token: 'abcdef.0123456789abcdef',
    caCertHash: `sha256:${'a'.repeat(64)}`,
  },
}

/** A varied fleet: every field of every kind, shared profiles, a channel with and one without rules. */
const varied: FleetRequest = {
  ...nothing,
  nodes: [
    {
      name: 'a1',
      addresses: ['192.0.2.10', '2001:DB8::1', '10.0.0.0/8'],
      macs: ['52-54-00-00-00-01'],
      uuid: '11111111-2222-3333-4444-555555555555',
      serial: 'SN 1',
      profile: 'worker',
      labels: { site: 'fra', rack: 'r1' },
    },
    { name: 'a2', macs: ['525400000002'], profile: 'disk' },
    { name: 'a3' },
  ],
  profiles: [
    {
      name: 'worker',
      evidence: ['secret', 'address'],
      kernelArguments: 'quiet console=ttyS1',
      boot: { stage2: 'small@1', stage3: 'full/stable', join },
      reinstall: { stage2: 'small@1', stage3: 'full@2' },
    },
    { name: 'disk', boot: 'local', armed: true },
  ],
  channels: [
    { channel: 'full/stable', version: '1' },
    { channel: 'full/next', version: 'full@2' },
  ],
}

const dryRun = (world: World, request: FleetRequest, by: By = ann): Promise<FleetPlan> =>
  applyFleet(world.context, by, { ...request, dryRun: true })
const apply = (world: World, request: FleetRequest, by: By = ann): Promise<FleetPlan> =>
  applyFleet(world.context, by, request)

/** A plan in words: `~ node a1: labels.site fra -> ams`. */
function told(plan: FleetPlan): string[] {
  const signs = { add: '+', change: '~', remove: '-' } as const
  return plan.changes.flatMap(({ kind, name, action, fields }) =>
    action !== 'change'
      ? [`${signs[action]} ${kind} ${name}`]
      : fields.map(
          ({ field, before, after, secret, changedBy }) =>
            `~ ${kind} ${name}: ${field} ${secret ? 'changed' : `${JSON.stringify(before)} -> ${JSON.stringify(after)}`}${changedBy === null ? '' : ` (${changedBy.actor})`}`,
        ),
  )
}

async function openFleet(openWorld: () => Promise<World>): Promise<World> {
  const world = await openWorld()
  await storeDemoFleet(world)
  return world
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('tells every fault of the files at once, and does nothing of them', async (t) => {
    const world = await openFleet(openWorld)
    await addNode(world.context, ann, { name: 'holder', macs: ['52:54:00:00:00:09'] })
    const kinds = await world.kinds()
    const wrong: FleetRequest = {
      ...nothing,
      nodes: [
        { name: 'Bad_Name' },
        { name: 'b1', macs: ['zz'], uuid: 'x', labels: { a: 'b c' } },
        { name: 'b2', macs: ['525400000009'] },
        { name: 'b3', profile: 'nope' },
        { name: 'b4', macs: ['525400000007'] },
        { name: 'b5', macs: ['52:54:00:00:00:07'] },
      ],
      profiles: [
        { name: 'p1', boot: { stage2: 'small', stage3: 'full@1' } },
        { name: 'p2', boot: 'local', kernelArguments: 'init=/bin/sh' },
        {
          name: 'p3',
          boot: {
            stage2: 'small@1',
            stage3: 'full@1',
            join: { ...join, settings: { ...join.settings, token: '***' } },
          },
        },
      ],
      channels: [
        { channel: 'full/stable', version: '9' },
        { channel: 'nope', version: '1' },
        { channel: 'full/next', version: 'small@1' },
        { channel: 'full/two', twoPerson: true },
      ],
    }
    const plan = await dryRun(world, wrong)
    t.same(
      plan.faults.map(({ kind, name, field, code }) => `${kind} ${name} ${field ?? '-'} ${code}`),
      [
        'channel full/next - invalid',
        'channel full/stable - not-found',
        'channel full/two - forbidden',
        'channel nope - invalid',
        'profile p1 - invalid',
        'profile p2 - forbidden',
        'profile p3 - invalid',
        'node Bad_Name - invalid',
        'node b1 macs invalid',
        'node b1 uuid invalid',
        'node b1 labels invalid',
        'node b2 macs exists',
        'node b3 profile not-found',
        'node b5 macs exists',
      ],
    )
    const refused = await errorOf(apply(world, wrong))
    t.match(refused, { code: 'invalid', message: /^channel "full\/next": .*; 13 more/ })
    t.same(await world.kinds(), kinds, 'a dry run and a refusal leave no trace')
    t.match(await errorOf(apply(world, { ...nothing, nodes: [{ name: 'x' }, { name: 'x' }] })), {
      code: 'invalid',
      message: 'node "x" is there twice',
    })
  })

  await t.test(
    'a varied fleet is added as single changes would add it; applied again, nothing changes',
    async (t) => {
      const world = await openFleet(openWorld)
      const files = `sha256:${'0'.repeat(64)}`
      const plan = await dryRun(world, { ...varied, files })
      t.same(plan.faults, [])
      t.same(told(plan), [
        '+ channel full/next',
        '+ channel full/stable',
        '+ profile disk',
        '+ profile worker',
        '+ node a1',
        '+ node a2',
        '+ node a3',
      ])
      t.notMatch(JSON.stringify(plan), '0123456789abcdef', 'no secret is in a plan')
      const done = await apply(world, { ...varied, plan: plan.plan, files })
      t.same([done.applied, done.plan, done.counts.added], [true, plan.plan, 7])
      const node = await showNode(world.context.storage.db, 'a1')
      t.match(node, {
        addresses: ['10.0.0.0/8', '192.0.2.10', '2001:db8::1'],
        macs: ['52:54:00:00:00:01'],
        profile: 'worker',
        labels: { site: 'fra', rack: 'r1' },
        state: 'registered',
        revision: 1,
      })
      t.same((await world.kinds()).filter((kind) => kind !== 'fleet-applied').sort(), [
        ...['channel-moved', 'channel-moved', 'node-added', 'node-added', 'node-added'],
        ...['profile-applied', 'profile-applied'],
      ])
      const [event] = await world.events({ kind: 'fleet-applied' })
      t.match(event, {
        actor: 'operator:ann',
        detail: { set: 'default', counts: { added: 7 }, files: /^sha256:0/, plan: plan.plan },
      })
      const before = await world.dump()
      const again = await dryRun(world, varied)
      t.same([told(again), again.counts.unchanged, again.counts.adopted], [[], 7, 0])
      await apply(world, { ...varied, plan: again.plan })
      t.equal(await world.dump(), before, 'nothing at all was written')
      t.notMatch(before, '0123456789abcdef', 'the secret is stored sealed only')
    },
  )

  await t.test(
    'three-way: named fields are set, fields no more named are cleared, others are left',
    async (t) => {
      const world = await openFleet(openWorld)
      const { context, clock } = world
      await apply(world, varied)
      clock.advance(60)
      await changeNode(context, jane, 'a1', { serial: 'SN 2', labels: { site: 'ams', own: 'x' } })
      await changeNode(context, jane, 'a3', { serial: 'BY-HAND' })
      await applyProfile(context, jane, 'disk', {
        name: 'disk',
        boot: 'local',
        armed: false,
        downloads: 'digest',
      })
      await move(context, jane, parseChannelRef('full/stable'), { how: 'set', version: '2', why: null })
      const { uuid: _, labels: __, ...rest } = varied.nodes[0] ?? { name: '' }
      const next: FleetRequest = {
        ...varied,
        nodes: [{ ...rest, labels: { site: 'fra' } }, ...varied.nodes.slice(1)],
      }
      const plan = await dryRun(world, next)
      t.same(told(plan), [
        '~ profile disk: armed false -> true (operator:jane)',
        '~ channel full/stable: version "2" -> "1" (operator:jane)',
        '~ node a1: uuid "11111111-2222-3333-4444-555555555555" -> null',
        '~ node a1: serial "SN 2" -> "SN 1" (operator:jane)',
        '~ node a1: labels.rack "r1" -> null',
        '~ node a1: labels.site "ams" -> "fra" (operator:jane)',
      ])
      await apply(world, { ...next, plan: plan.plan })
      t.match(await showNode(context.storage.db, 'a1'), {
        uuid: null,
        serial: 'SN 1',
        labels: { own: 'x' },
        revision: 3,
      })
      t.same((await showNode(context.storage.db, 'a1')).labels, { own: 'x', site: 'fra' })
      t.equal(
        (await showNode(context.storage.db, 'a3')).serial,
        'BY-HAND',
        'what no file named is left alone',
      )
      t.match((await showProfile(context.storage.db, 'disk')).profile, { armed: true, downloads: 'digest' })
      t.same(told(await dryRun(world, next)), [])
      await removeNode(context, jane, 'a2')
      t.same(told(await dryRun(world, next)), ['+ node a2'], 'what was removed by hand comes back')
    },
  )

  await t.test('a profile keeps its secret by ***, and only tells that another came', async (t) => {
    const world = await openFleet(openWorld)
    await apply(world, varied)
    const worker = (token: string): FleetRequest => ({
      ...varied,
      profiles: [
        {
          ...varied.profiles[0],
          name: 'worker',
          boot: {
            stage2: 'small@1',
            stage3: 'full/stable',
            join: { ...join, settings: { ...join.settings, token } },
          },
        },
        ...varied.profiles.slice(1),
      ],
    })
    t.same(told(await dryRun(world, worker('***'))), [])
    const plan = await dryRun(world, worker('ffffff.ffffffffffffffff'))
    t.same(told(plan), ['~ profile worker: boot.join.settings.token changed'])
    t.notMatch(JSON.stringify(plan), 'ffffffffffffffff')
    await apply(world, worker('ffffff.ffffffffffffffff'))
    t.same(told(await dryRun(world, worker('ffffff.ffffffffffffffff'))), [])
  })

  await t.test('the plan that was shown is the plan that is done, or nothing is', async (t) => {
    const world = await openFleet(openWorld)
    await apply(world, varied)
    const next = {
      ...varied,
      nodes: [{ ...varied.nodes[0], name: 'a1', serial: 'NEW' }, ...varied.nodes.slice(1)],
    }
    const plan = await dryRun(world, next)
    t.equal((await dryRun(world, next)).plan, plan.plan, 'the same files on the same fleet: the same plan')
    await changeNode(world.context, jane, 'a1', { serial: 'OTHER' })
    const error = await errorOf(apply(world, { ...next, plan: plan.plan }))
    t.match(error, { code: 'conflict', message: 'the fleet is another now than when this plan was made' })
    t.equal((await showNode(world.context.storage.db, 'a1')).serial, 'OTHER')
    const now = await dryRun(world, next)
    t.same(told(now), ['~ node a1: serial "OTHER" -> "NEW" (operator:jane)'])
    await apply(world, { ...next, plan: now.plan })
  })

  await t.test('an operator does not take off an admin rule by pruning its channel', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    const ref = parseChannelRef('full/beta')
    await move(context, admin, ref, { how: 'set', version: '1', why: null })
    await protectChannel(context, admin, ref, { requireTest: true })
    await apply(world, { ...nothing, channels: [{ channel: 'full/beta' }] })
    t.match(await errorOf(apply(world, { ...nothing, prune: true })), {
      code: 'conflict',
      message: /takes tested versions only/,
      hint: /only an admin can take that rule off/,
    })
    t.equal((await showChannel(context.storage.db, ref)).requireTest, true)
    const pruned = await apply(world, { ...nothing, prune: true }, admin)
    t.same(told(pruned), ['- channel full/beta'])
  })

  await t.test(
    'prune removes what this set held and the files name no more, in order of dependency',
    async (t) => {
      const world = await openFleet(openWorld)
      const { context } = world
      for (let n = 0; n < 30; n += 1) await addNode(context, ann, { name: `other${n}` })
      await apply(world, varied)
      const less: FleetRequest = {
        ...varied,
        nodes: varied.nodes.slice(1),
        channels: varied.channels.slice(0, 1),
        profiles: [],
      }
      const left = await dryRun(world, less)
      t.same([told(left), left.counts.left], [[], 4], 'without prune all of it stays')
      await apply(world, less)
      const used = await dryRun(world, { ...less, prune: true })
      t.match(used.faults, [{ kind: 'profile', name: 'disk', message: /node "a2" that stays has it/ }])
      const pruned: FleetRequest = { ...less, prune: true, nodes: [{ name: 'a3' }], channels: [] }
      const plan = await dryRun(world, pruned)
      t.same(plan.faults, [])
      t.same(told(plan), [
        ...['- node a1', '- node a2', '- profile disk', '- profile worker'],
        ...['- channel full/next', '- channel full/stable'],
      ])
      await apply(world, { ...pruned, plan: plan.plan })
      const names = (await pageOfNodes(context.storage.db, { limit: 100 })).items.map(({ name }) => name)
      t.same([names.length, names.includes('a1'), names.includes('a3')], [32, false, true])
      t.match(await errorOf(showChannel(context.storage.db, parseChannelRef('full/next'))), {
        code: 'not-found',
      })
      t.match(await errorOf(showProfile(context.storage.db, 'worker')), { code: 'not-found' })
      t.same(told(await dryRun(world, pruned)), [])
    },
  )

  await t.test(
    'what takes the name of a removed thing goes on behind its revisions: no tag of before fits',
    async (t) => {
      const world = await openFleet(openWorld)
      const { db } = world.context.storage
      const revisions = async (): Promise<number[]> => [
        (await showProfile(db, 'disk')).revision,
        (await showChannel(db, parseChannelRef('full/next'))).revision,
      ]
      const both: FleetRequest = {
        ...nothing,
        profiles: [{ name: 'disk', boot: 'local' }],
        channels: [{ channel: 'full/next', version: '2' }],
      }
      await apply(world, both)
      const first = await revisions()
      await apply(world, { ...nothing, prune: true }, admin)
      await apply(world, both)
      const second = await revisions()
      t.ok(
        second.every((revision, n) => revision > (first[n] ?? 0)),
        `${first} and ${second}`,
      )
      const seen: By = { ...ann, precondition: { at: [first[0] ?? 0] } }
      t.match(
        await errorOf(
          applyProfile(world.context, seen, 'disk', { name: 'disk', boot: 'local', armed: true }),
        ),
        {
          code: 'precondition-failed',
        },
      )
      await apply(world, { ...nothing, prune: true }, admin)
      await apply(world, both)
      const third = await revisions()
      t.ok(
        third.every((revision, n) => revision > (second[n] ?? 0)),
        `${second} and ${third}`,
      )
    },
  )

  await t.test('a profile and a channel that something needs are not removed', async (t) => {
    const world = await openFleet(openWorld)
    const { context } = world
    await apply(
      world,
      {
        ...nothing,
        channels: [
          { channel: 'full/stable', version: '1' },
          { channel: 'small/two', version: '1' },
        ],
      },
      admin,
    )
    await applyProfile(context, ann, 'by-hand', {
      name: 'by-hand',
      boot: { stage2: 'small@1', stage3: 'full/stable' },
    })
    await protectChannel(context, admin, parseChannelRef('small/two'), { twoPerson: true })
    const plan = await dryRun(world, { ...nothing, prune: true })
    t.same(
      plan.faults.map(({ message }) => message),
      ['channel full/stable is what profile "by-hand" boots', 'channel small/two moves with two people only'],
    )
  })

  await t.test('more than a tenth of the nodes go only when it is said twice', async (t) => {
    const world = await openFleet(openWorld)
    const { context } = world
    for (let n = 0; n < 17; n += 1) await addNode(context, ann, { name: `other${n}` })
    const two = { ...nothing, nodes: [{ name: 'x1' }, { name: 'x2' }] }
    await apply(world, two) // 20 nodes
    t.equal((await dryRun(world, { ...nothing, prune: true })).massRemoval, false, '2 of 20 are 10 %')
    await removeNode(context, ann, 'other0')
    const plan = await dryRun(world, { ...nothing, prune: true })
    t.same([plan.massRemoval, plan.nodes], [true, { before: 19, removed: 2 }])
    t.match(await errorOf(apply(world, { ...nothing, prune: true })), {
      code: 'conflict',
      message: 'this would remove 2 of 19 nodes (10 %), more than 10 %',
      hint: /--allow-mass-removal/,
    })
    await apply(world, { ...nothing, prune: true, allowMassRemoval: true, plan: plan.plan })
    t.equal((await pageOfNodes(context.storage.db, { limit: 100 })).items.length, 17)
  })

  await t.test('a thing is in one set, until another takes it over', async (t) => {
    const world = await openFleet(openWorld)
    await apply(world, { ...nothing, set: 'eu', nodes: [{ name: 'x1', serial: 'A' }] })
    const other: FleetRequest = { ...nothing, nodes: [{ name: 'x1' }, { name: 'node1' }] }
    t.match((await dryRun(world, other)).faults, [
      { message: 'node "x1" belongs to the set "eu"', code: 'conflict' },
    ])
    const plan = await dryRun(world, { ...other, takeOver: true })
    t.same([told(plan), plan.counts.adopted], [[], 2])
    await apply(world, { ...other, takeOver: true })
    t.equal((await showNode(world.context.storage.db, 'x1')).serial, 'A', 'what the other set named is left')
    t.same(
      told(await dryRun(world, { ...nothing, set: 'eu', prune: true })),
      [],
      'nothing is left in the other set',
    )
  })

  await t.test('a move that needs a second person is proposed; the rest is done', async (t) => {
    const world = await openFleet(openWorld)
    const { context } = world
    const files = (version: string): FleetRequest => ({
      ...nothing,
      channels: [{ channel: 'full/stable', version, twoPerson: true }],
      nodes: [{ name: `n${version}` }],
    })
    await apply(world, files('1'), admin)
    const plan = await dryRun(world, files('2'), admin)
    t.match(plan.changes[0], { name: 'full/stable', notes: [/needs a second person/] })
    await apply(world, { ...files('2'), plan: plan.plan }, admin)
    t.equal((await showChannel(context.storage.db, parseChannelRef('full/stable'))).version, '1')
    t.same((await world.events({ kind: 'change-proposed' })).length, 1)
    t.ok(await showNode(context.storage.db, 'n2'))
    await apply(world, files('2'), admin)
    t.same(
      (await world.events({ kind: 'change-proposed' })).length,
      1,
      'the same again is no second proposal',
    )
  })

  await t.test('nodes exchange what only one can have', async (t) => {
    const world = await openFleet(openWorld)
    const [one, two] = [
      '11111111-2222-3333-4444-555555555555',
      '11111111-2222-3333-4444-666666666666',
    ] as const
    const files = (swap: boolean): FleetRequest => ({
      ...nothing,
      nodes: [
        { name: 'x1', macs: [swap ? '525400000002' : '525400000001'], uuid: swap ? two : one },
        { name: 'x2', macs: [swap ? '525400000001' : '525400000002'], uuid: swap ? one : two },
      ],
    })
    await apply(world, files(false))
    await apply(world, files(true))
    t.match(await showNode(world.context.storage.db, 'x1'), { uuid: two, macs: ['52:54:00:00:00:02'] })
    const replaced: FleetRequest = { ...nothing, nodes: [{ name: 'x3', macs: ['525400000002'], uuid: two }] }
    await apply(world, { ...replaced, prune: true, allowMassRemoval: true })
    t.match(await showNode(world.context.storage.db, 'x3'), { uuid: two, macs: ['52:54:00:00:00:02'] })
  })
})
