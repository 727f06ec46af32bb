import t from 'tap'
import { acceptFacts, showRefusedFacts } from '../../src/fleet/accept-facts.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { addNode, changeNode } from '../../src/fleet/nodes.ts'
import { demoProfile, storeDemoFleet, storeProfile } from '../helpers/fleet.ts'
import { askStage1, machineOf } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

type Fact = 'uuid' | 'serial' | 'mac'
/** What is known of a fact: an operator registered it, the boot before told it, both (of two NICs, say), or nothing. */
type Known = 'registered' | 'last' | 'both' | 'nothing'
type Told = 'same' | 'other' | 'not told'
type Outcome = 'served' | 'recorded' | 'facts-changed' | 'facts-contradict'

const values: Record<Fact, readonly [string, string]> = {
  uuid: ['11111111-2222-3333-4444-555555555555', '99999999-2222-3333-4444-555555555555'],
  serial: ['SN1', 'SN9'],
  mac: ['52:54:00:12:34:56', '52:54:00:99:99:99'],
}

/** For what a machine has one of: another one cannot be it. */
const machines: Record<Known, Record<Told, readonly [Outcome, Outcome]>> = {
  registered: {
    same: ['served', 'served'],
    other: ['facts-contradict', 'facts-contradict'],
    'not told': ['served', 'served'],
  },
  last: {
    same: ['served', 'served'],
    other: ['recorded', 'facts-changed'],
    'not told': ['served', 'facts-changed'],
  },
  both: {
    same: ['served', 'served'],
    other: ['facts-contradict', 'facts-contradict'],
    'not told': ['served', 'facts-changed'],
  },
  nothing: { same: ['served', 'served'], other: ['served', 'served'], 'not told': ['served', 'served'] },
}

/** Fact by what is known and told: the outcome with `record`, then with `refuse`. */
const table: Record<Fact, Record<Known, Record<Told, readonly [Outcome, Outcome]>>> = {
  uuid: machines,
  serial: machines,
  mac: {
    registered: {
      same: ['served', 'served'],
      other: ['recorded', 'facts-changed'],
      'not told': ['served', 'served'],
    },
    last: {
      same: ['served', 'served'],
      other: ['recorded', 'facts-changed'],
      'not told': ['served', 'facts-changed'],
    },
    both: {
      same: ['served', 'served'],
      other: ['recorded', 'facts-changed'],
      'not told': ['served', 'facts-changed'],
    },
    nothing: { same: ['served', 'served'], other: ['served', 'served'], 'not told': ['served', 'served'] },
  },
}

/** Boots node1 and tells how that went. */
async function outcomeOf(world: World, secret: string, told: Record<string, string>): Promise<Outcome> {
  const before = (await world.events({ kind: 'facts-changed' })).length
  try {
    await askStage1(world, machineOf(secret, { fields: { ...told, secret } }))
  } catch {
    return (await world.events({ kind: 'refused' })).at(-1)?.detail.cause as Outcome
  }
  return (await world.events({ kind: 'facts-changed' })).length > before ? 'recorded' : 'served'
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('every fact × what is known × what is told × policy', async (t) => {
    const world = await openWorld({ settings: { maxStage1PerHour: 1000, loopStage1s: 0 } })
    const { context, clock } = world
    const secret = await storeDemoFleet(world)
    for (const [index, policy] of (['record', 'refuse'] as const).entries()) {
      await storeProfile(world, { ...demoProfile, whenFactsChange: policy })
      for (const fact of Object.keys(table) as Fact[]) {
        for (const known of Object.keys(table[fact]) as Known[]) {
          for (const told of Object.keys(table[fact][known]) as Told[]) {
            const [same, other] = values[fact]
            const registers = known === 'registered' || known === 'both'
            await context.storage.db.deleteFrom('sessions').execute()
            const last = known === 'last' || known === 'both' ? JSON.stringify({ [fact]: same }) : null
            await context.storage.db.updateTable('nodes').set({ last_facts: last }).execute()
            await changeNode(context, ann, 'node1', {
              uuid: registers && fact === 'uuid' ? same : null,
              serial: registers && fact === 'serial' ? same : null,
              macs: registers && fact === 'mac' ? [same] : [],
            })
            const fields = told === 'not told' ? {} : { [fact]: told === 'same' ? same : other }
            const what = `${fact}, ${known}, ${told}, ${policy}`
            t.equal(
              await outcomeOf(world, secret, fields as Record<string, string>),
              table[fact][known][told][index],
              what,
            )
            clock.advance(61) // or else refusals would be counted, not listed
          }
        }
      }
    }
  })

  await t.test(
    'a second registered NIC is no news; one that is not is in the event, with what was before',
    async (t) => {
      const world = await openWorld()
      const { context, clock } = world
      const secret = await storeDemoFleet(world)
      await changeNode(context, ann, 'node1', { macs: [...values.mac] })
      t.equal(await outcomeOf(world, secret, { mac: values.mac[0] }), 'served')
      clock.advance(3 * 3600)
      t.equal(await outcomeOf(world, secret, { mac: values.mac[1] }), 'served')
      clock.advance(3 * 3600)
      t.equal(await outcomeOf(world, secret, { mac: '52:54:00:00:00:01' }), 'recorded')
      t.match((await world.events({ kind: 'facts-changed' })).at(-1)?.detail, {
        changed: ['mac'],
        before: { mac: values.mac[1] },
        now: { mac: '52:54:00:00:00:01' },
      })
    },
  )

  await t.test('a boot that tells nothing does not make way for another machine', async (t) => {
    const world = await openWorld({ settings: { maxStage1PerHour: 1000, loopStage1s: 0 } })
    const { context, clock } = world
    const secret = await storeDemoFleet(world)
    await changeNode(context, ann, 'node1', { uuid: null, serial: null, macs: [] })
    const machine = (index: 0 | 1): Record<string, string> => ({
      uuid: values.uuid[index],
      serial: values.serial[index],
      mac: values.mac[index],
    })
    for (const [policy, nothing, after] of [
      ['record', 'served', 'recorded'],
      ['refuse', 'facts-changed', 'facts-changed'],
    ] as const) {
      await context.storage.db.deleteFrom('sessions').execute()
      await context.storage.db.updateTable('nodes').set({ last_facts: null }).execute()
      await storeProfile(world, { ...demoProfile, whenFactsChange: policy })
      t.equal(await outcomeOf(world, secret, machine(0)), 'served', policy)
      clock.advance(3 * 3600)
      t.equal(await outcomeOf(world, secret, {}), nothing, policy)
      clock.advance(3 * 3600)
      t.equal(await outcomeOf(world, secret, machine(1)), after, policy)
      clock.advance(3 * 3600)
    }
    t.equal(await outcomeOf(world, secret, { mac: values.mac[0] }), 'facts-changed')
    const refused = await showRefusedFacts(context.storage.db, 'node1')
    t.same(refused.changes, [
      { fact: 'uuid', before: values.uuid[0], now: null },
      { fact: 'serial', before: 'SN1', now: null },
    ])
    await acceptFacts(context, ann, 'node1', refused.refusedAt)
    t.equal(await outcomeOf(world, secret, { mac: values.mac[0] }), 'served', 'an operator said so')
  })

  await t.test(
    'an operator accepts exactly the facts that were refused, and the node boots with them',
    async (t) => {
      const world = await openWorld()
      const { context, clock } = world
      const secret = await storeDemoFleet(world)
      await storeProfile(world, { ...demoProfile, whenFactsChange: 'refuse' })
      await changeNode(context, ann, 'node1', { uuid: values.uuid[0], macs: [values.mac[0]] })
      t.match(await errorOf(showRefusedFacts(context.storage.db, 'node1')), { code: 'not-found' })
      t.match(await errorOf(showRefusedFacts(context.storage.db, 'nope')), { code: 'not-found' })
      const before = { uuid: values.uuid[0], serial: values.serial[0], mac: values.mac[0] }
      t.equal(await outcomeOf(world, secret, before), 'served')
      clock.advance(3 * 3600)
      const board = { uuid: values.uuid[1], serial: values.serial[1], mac: values.mac[1] }
      t.equal(await outcomeOf(world, secret, board), 'facts-contradict')
      const seen = await showRefusedFacts(context.storage.db, 'node1')
      t.match(seen, {
        node: 'node1',
        source: '192.0.2.10',
        changes: [
          { fact: 'uuid', before: values.uuid[0], now: values.uuid[1] },
          { fact: 'serial', before: 'SN1', now: 'SN9' },
          { fact: 'mac', before: values.mac[0], now: values.mac[1] },
        ],
      })
      clock.advance(1)
      await outcomeOf(world, secret, { ...board, serial: 'SN10' })
      t.match(
        await errorOf(acceptFacts(context, ann, 'node1', seen.refusedAt)),
        { code: 'conflict', hint: /accept-facts node1/ },
        'another machine came in between',
      )
      const now = await showRefusedFacts(context.storage.db, 'node1')
      await addNode(context, ann, { name: 'other', uuid: values.uuid[1] })
      t.match(await errorOf(acceptFacts(context, ann, 'node1', now.refusedAt)), { code: 'exists' })
      await changeNode(context, ann, 'other', { uuid: null })
      await acceptFacts(context, ann, 'node1', now.refusedAt)
      t.match(await showNode(context.storage.db, 'node1'), {
        uuid: values.uuid[1],
        serial: null,
        macs: [values.mac[0], values.mac[1]],
      })
      t.match(await world.events({ kind: 'facts-accepted' }), [
        {
          node: 'node1',
          actor: 'operator:ann',
          detail: { changes: [{ fact: 'uuid' }, { now: 'SN10' }, {}] },
        },
      ])
      t.equal(await outcomeOf(world, secret, { ...board, serial: 'SN10' }), 'served')
      t.match(await errorOf(acceptFacts(context, ann, 'node1', now.refusedAt)), { code: 'not-found' })
      clock.advance(3 * 3600)
      t.equal(await outcomeOf(world, secret, { ...board, serial: 'SN1' }), 'facts-changed')
    },
  )

  await t.test('facts of who has not proved to be the node are never offered for acceptance', async (t) => {
    const world = await openWorld()
    await storeDemoFleet(world)
    await changeNode(world.context, ann, 'node1', { uuid: values.uuid[0] })
    await askStage1(world, machineOf('A'.repeat(44), { fields: { uuid: values.uuid[1] } })).catch(() => {})
    t.match(await errorOf(showRefusedFacts(world.context.storage.db, 'node1')), { code: 'not-found' })
  })
})
