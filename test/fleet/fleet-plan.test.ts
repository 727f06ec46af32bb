import t from 'tap'
import { parseChannelRef } from '../../src/domain/channel.ts'
import { move } from '../../src/fleet/channels.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import type { FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { addNode, disableNode, removeNode } from '../../src/fleet/nodes.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { allProfiles } from '../../src/storage/fleet.ts'
import { updateNode } from '../../src/storage/nodes.ts'
import { insertSession } from '../../src/storage/sessions.ts'
import type { SessionRow } from '../../src/storage/tables.ts'
import { nodeRow, storeDemoFleet } from '../helpers/fleet.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

const nothing: FleetRequest = { set: 'default', nodes: [], profiles: [], channels: [] }

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'one mistake in thousands of nodes is an answer that can be read: 100 faults, and how many',
    async (t) => {
      const { context } = await openWorld()
      const profiles = Array.from({ length: 30 }, (_, n) => ({ name: `p${n + 10}`, boot: 'local' }))
      const nodes = Array.from({ length: 3000 }, (_, n) => ({ name: `n${n}`, profile: 'nope' }))
      const files = { ...nothing, nodes, profiles }
      const plan = await applyFleet(context, ann, { ...files, dryRun: true })
      t.same([plan.faults.length, plan.faultCount], [100, 3000])
      t.match(plan.faults[99], {
        message: 'profile "nope" does not exist',
        hint: /^there are: p10, .*p29, …$/,
      })
      t.match(await errorOf(applyFleet(context, ann, files)), {
        code: 'not-found',
        message: /^node "n0": profile "nope" does not exist; 2999 more/,
      })
    },
  )

  await t.test(
    'a transaction reads all profiles once, until it writes one; outside they are read anew',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await storeDemoFleet(world)
      const { db } = context.storage
      const first = await allProfiles(db)
      t.not(await allProfiles(db), first)
      await context.storage.transaction(async (tx) => {
        const before = await allProfiles(tx)
        t.same(before, first)
        t.equal(await allProfiles(tx), before, 'not parsed again for each channel of a change')
      })
      const files: FleetRequest = {
        ...nothing,
        profiles: [{ name: 'follower', boot: { stage2: 'small@1', stage3: 'full/new' } }],
        channels: [
          { channel: 'full/new', version: '1' },
          { channel: 'small/edge', version: '1' },
        ],
      }
      await applyFleet(context, ann, files)
      await applyProfile(context, ann, 'stage2', {
        name: 'stage2',
        boot: { stage2: 'small/edge', stage3: 'full@1' },
      })
      const { changes } = await applyFleet(context, ann, {
        ...nothing,
        profiles: [{ name: 'another', boot: { stage2: 'full/new', stage3: 'full@1' } }],
        channels: [{ channel: 'full/new', version: '2' }],
      })
      t.match(
        changes.find(({ kind }) => kind === 'channel'),
        { notes: [/needs a second person/] },
        'a channel is judged by the profile that the same change has written',
      )
    },
  )

  await t.test('what was changed after the diff is not removed under the plan of before', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    const ref = parseChannelRef('full/gone')
    await applyFleet(context, root, {
      ...nothing,
      nodes: [{ name: 'gone' }],
      profiles: [{ name: 'gone', boot: 'local' }],
      channels: [{ channel: 'full/gone', version: '1' }],
    })
    const removal = { ...nothing, prune: true, allowMassRemoval: true }
    const { id } = await nodeRow(world, 'gone')
    const at = world.clock.now().toISOString()
    const session: SessionRow = {
      ...{
        id: 's1',
        node: id,
        sequence: 'boot',
        tokens: 'native',
        local: 0,
        state: 'stage1',
        stage: 'stage1',
      },
      ...{ cause: null, pinned: '{}', facts: '{}', source: '192.0.2.1', started_at: at, last_seen_at: at },
      ...{ expires_at: at, ended_at: null },
    }
    const changes: Record<string, () => Promise<unknown>> = {
      'the profile': () => applyProfile(context, ann, 'gone', { name: 'gone', boot: 'local', armed: true }),
      'the channel': () => move(context, ann, ref, { how: 'set', version: '2', why: null }),
      'the state of the node': () => disableNode(context, ann, 'gone'),
      'the session of the node': () => context.storage.transaction((tx) => insertSession(tx, session)),
      'the mark of the node': () =>
        context.storage.transaction((tx) => updateNode(tx, id, { reinstall: 'marked' })),
    }
    for (const [what, make] of Object.entries(changes)) {
      const { plan, changes } = await applyFleet(context, root, { ...removal, dryRun: true })
      t.equal(changes.length, 3)
      t.equal((await applyFleet(context, root, { ...removal, dryRun: true })).plan, plan)
      await make()
      t.match(
        await errorOf(applyFleet(context, root, { ...removal, plan })),
        { code: 'conflict', message: 'the fleet is another now than when this plan was made' },
        what,
      )
    }
    const { plan } = await applyFleet(context, root, { ...removal, dryRun: true })
    t.equal((await applyFleet(context, root, { ...removal, plan })).counts.removed, 3)
  })

  await t.test('prune leaves what a person made by hand under a name that the set once held', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    const held = {
      ...nothing,
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      profiles: [{ name: 'p', boot: 'local' }],
    }
    const channels = [{ channel: 'full/c', version: '1' }]
    await applyFleet(context, ann, { ...held, channels })
    await removeNode(context, ann, 'n1')
    await applyFleet(context, ann, { ...nothing, prune: true, allowMassRemoval: true })
    for (const name of ['n1', 'n2']) await addNode(context, ann, { name, serial: 'BY HAND' })
    await applyProfile(context, ann, 'p', { name: 'p', boot: 'local' })
    await move(context, ann, parseChannelRef('full/c'), { how: 'set', version: '1', why: null })
    const pruned = await applyFleet(context, ann, { ...nothing, prune: true, allowMassRemoval: true })
    t.same([pruned.changes, pruned.counts.left], [[], 0])
    t.equal((await nodeRow(world, 'n1')).serial, 'BY HAND')
  })
})
