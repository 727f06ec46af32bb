import t from 'tap'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import type { FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { allProfiles } from '../../src/storage/fleet.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { ann, errorOf } from '../helpers/operators.ts'
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
})
