import t from 'tap'
import { type NodeState, nodeTransitions } from '../../src/domain/state.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { pageOfNodes, showNode } from '../../src/fleet/node-view.ts'
import { addNode, armNode, changeNode, disableNode, enableNode, removeNode } from '../../src/fleet/nodes.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { nodeRow, storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { askStage, askStage1, boot, machineOf, report } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

const uuid = '11111111-2222-3333-4444-555555555555'
const states = Object.keys(nodeTransitions).filter((state) => state !== 'discovered') as NodeState[]

/** The columns that a state needs beside it. */
function columnsFor(state: NodeState): { state: NodeState; failure_cause: string | null } {
  return { state, failure_cause: state === 'failed' ? 'reported' : null }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses to add what is wrong or taken, and adds nothing', async (t) => {
    const { context, kinds } = await openWorld()
    await addNode(context, ann, { name: 'taken', macs: ['52:54:00:00:00:01'], uuid })
    const profile = { name: 'web', boot: 'local' }
    await applyProfile(context, ann, 'web', profile)
    const table: [string, Parameters<typeof addNode>[2], string, RegExp][] = [
      ['its name', { name: 'taken' }, 'exists', /node "taken" exists/],
      ['a name that is no host name', { name: 'Node_1' }, 'invalid', /"Node_1" is not a host name/],
      [
        'a MAC of another node',
        { name: 'a', macs: ['52-54-00-00-00-01'] },
        'exists',
        /MAC address 52:54:00:00:00:01 belongs to node "taken"/,
      ],
      [
        'a UUID of another node',
        { name: 'a', uuid: uuid.toUpperCase() },
        'exists',
        /UUID 1{8}.* belongs to node "taken"/,
      ],
      ['a bad MAC', { name: 'a', macs: ['52:54'] }, 'invalid', /MAC address "52:54"/],
      ['a bad UUID', { name: 'a', uuid: 'x' }, 'invalid', /UUID "x"/],
      [
        'a UUID that means none',
        { name: 'a', uuid: '00000000-0000-0000-0000-000000000000' },
        'invalid',
        /has none/,
      ],
      ['a bad serial number', { name: 'a', serial: 'ü' }, 'invalid', /serial number/],
      ['a bad address', { name: 'a', addresses: ['10.0.0.300'] }, 'invalid', /is not an IP address/],
      ['host bits in a prefix', { name: 'a', addresses: ['10.0.0.1/8'] }, 'invalid', /host bits set/],
      ['a bad label', { name: 'a', labels: { rack: 'a b' } }, 'invalid', /label "rack=a b"/],
      [
        'a profile that is not there',
        { name: 'a', profile: 'nope' },
        'not-found',
        /profile "nope" does not exist/,
      ],
    ]
    for (const [what, asked, code, message] of table) {
      const error = await errorOf(addNode(context, ann, asked))
      t.match(error, { code, message }, what)
    }
    t.match((await errorOf(addNode(context, ann, { name: 'a', profile: 'nope' }))).hint, 'there are: web')
    t.same(
      (await pageOfNodes(context.storage.db, { limit: 10 })).items.map((node) => node.name),
      ['taken'],
    )
    t.same(await kinds(), ['node-added', 'profile-applied'])
  })

  await t.test('adds a node with everything it was told, in one spelling, and records who did', async (t) => {
    const { context, events } = await openWorld()
    const { node, warnings } = await addNode(context, ann, {
      name: 'mlab1.example.org',
      addresses: ['192.0.2.10', '2001:DB8:0::1', '10.0.0.0/8'],
      macs: ['525400000001', '52-54-00-00-00-01'],
      uuid: uuid.toUpperCase(),
      serial: 'SN 1',
      labels: { rack: 'r1' },
    })
    t.match(node, {
      name: 'mlab1.example.org',
      state: 'registered',
      failureCause: null,
      profile: null,
      addresses: ['10.0.0.0/8', '192.0.2.10', '2001:db8::1'],
      macs: ['52:54:00:00:00:01'],
      uuid,
      serial: 'SN 1',
      labels: { rack: 'r1' },
      reinstall: 'none',
      reinstallAttempts: 0,
      armed: false,
      secret: { issued: false },
      session: null,
      createdAt: '2026-11-21T06:00:00.000Z',
    })
    t.same(warnings, [])
    const [event] = await events()
    t.match(event, {
      kind: 'node-added',
      node: 'mlab1.example.org',
      actor: 'operator:ann',
      source: '198.51.100.7',
      chain: 'node/mlab1.example.org',
      detail: { macs: ['52:54:00:00:00:01'], serial: 'SN 1', labels: { rack: 'r1' } },
    })
  })

  await t.test('accepts an address and a serial number that another node has, with a warning', async (t) => {
    const { context } = await openWorld()
    await addNode(context, ann, { name: 'a', addresses: ['192.0.2.1', '10.0.0.0/8'], serial: '42' })
    const { warnings } = await addNode(context, ann, {
      name: 'b',
      addresses: ['192.0.2.1', '10.0.0.0/8'],
      serial: '42',
    })
    t.same(warnings, [
      'node "a" has address 192.0.2.1 too: it proves nothing alone',
      'node "a" has serial number 42 too: facts with it alone select no node',
    ])
  })

  await t.test(
    'changes only what is given; null clears, labels are merged; nothing changed is no event',
    async (t) => {
      const { context, events, kinds, clock } = await openWorld()
      await addNode(context, ann, { name: 'other', macs: ['52:54:00:00:00:09'] })
      await addNode(context, ann, {
        name: 'a',
        addresses: ['192.0.2.1'],
        macs: ['52:54:00:00:00:01'],
        uuid,
        serial: '42',
        labels: { rack: 'r1', row: '7' },
      })
      clock.advance(60)
      const { node } = await changeNode(context, ann, 'a', {
        serial: null,
        labels: { rack: 'r2', row: null },
      })
      t.match(node, {
        addresses: ['192.0.2.1'],
        macs: ['52:54:00:00:00:01'],
        uuid,
        serial: null,
        labels: { rack: 'r2' },
        updatedAt: '2026-11-21T06:01:00.000Z',
      })
      t.notOk('row' in node.labels)
      t.same((await events()).at(-1)?.detail, {
        before: { serial: '42', labels: { rack: 'r1', row: '7' } },
        after: { serial: null, labels: { rack: 'r2' } },
      })
      await changeNode(context, ann, 'a', { uuid, macs: ['52:54:00:00:00:01'] })
      t.equal((await kinds()).length, 3)
      t.match(await errorOf(changeNode(context, ann, 'a', { macs: ['52:54:00:00:00:09'] })), {
        code: 'exists',
        message: /"other"/,
      })
      t.match(await errorOf(changeNode(context, ann, 'nope', {})), {
        code: 'not-found',
        hint: /pawl node list/,
      })
      t.match((await changeNode(context, ann, 'a', { macs: [], addresses: [] })).node, {
        macs: [],
        addresses: [],
      })
    },
  )

  await t.test('of two that take one MAC address at once, one gets it', async (t) => {
    const { context } = await openWorld()
    const results = await Promise.allSettled(
      ['a', 'b', 'c', 'd'].map((name) => addNode(context, ann, { name, macs: ['52:54:00:00:00:01'] })),
    )
    t.equal(results.filter((result) => result.status === 'fulfilled').length, 1)
    const codes = results.filter((r) => r.status === 'rejected').map((r) => r.reason.code)
    t.ok(
      codes.every((code) => code === 'conflict' || code === 'exists'),
      codes.join(),
    )
  })

  await t.test('disables in every state that has it, and says what to do in the others', async (t) => {
    const world = await openWorld()
    await storeDemoFleet(world)
    for (const state of states) {
      await storeNode(world, { name: `in-${state}`, ...columnsFor(state) })
      if (nodeTransitions[state].disable === undefined) {
        const error = await errorOf(disableNode(world.context, ann, `in-${state}`))
        t.match(error, { code: 'conflict', hint: `pawl node enable in-${state}` }, state)
      } else {
        const node = await disableNode(world.context, ann, `in-${state}`)
        t.match(node, { state: 'disabled', failureCause: null }, state)
      }
    }
  })

  await t.test('enables a disabled node only, and arms where a boot could follow', async (t) => {
    const world = await openWorld()
    const { context, kinds } = world
    await storeDemoFleet(world)
    for (const state of states) {
      await storeNode(world, { name: `in-${state}`, ...columnsFor(state) })
      const enabled = enableNode(context, ann, `in-${state}`)
      if (state === 'disabled') t.equal((await enabled).state, 'registered')
      else t.match(await errorOf(enabled), { code: 'conflict', message: `is ${state}, not disabled` })
    }
    await storeNode(world, { name: 'off', state: 'disabled' })
    t.match(await errorOf(armNode(context, ann, 'off')), { code: 'conflict', hint: /enable it first/ })
    t.match(await errorOf(armNode(context, ann, 'in-held')), { code: 'conflict', hint: /mark it again/ })
    t.equal((await armNode(context, ann, 'in-ready')).armed, true)
    t.equal((await armNode(context, ann, 'in-ready')).armed, true)
    t.equal((await kinds({ kind: 'node-armed' })).length, 1, 'arming twice is one event')
  })

  await t.test(
    'disabling a node spends all its tokens, cuts its downloads, and gives its mark back',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      const machine = machineOf(await storeDemoFleet(world))
      await context.storage.db.updateTable('nodes').set({ reinstall: 'marked' }).execute()
      const first = await boot(world, machine, 'handover')
      world.clock.advance(60)
      const learnt = await boot(world, machine, 'stage2')
      let cuts = 0
      context.transfers.begin(learnt.session, () => {
        cuts += 1
      })
      const node = await disableNode(context, ann, 'node1')
      t.match(node, {
        state: 'disabled',
        reinstall: 'marked',
        session: { state: 'failed', cause: 'the node was disabled' },
      })
      t.equal(cuts, 1)
      const open = await context.storage.db
        .selectFrom('tokens')
        .select('kind')
        .where('retired_at', 'is', null)
        .execute()
      t.same(open, [], 'the report tokens of ended sessions too')
      for (const ask of [
        () => askStage(world, machine, 'stage3', learnt.stage3),
        () => report(world, machine, first.report, 'error: late'),
        () => report(world, machine, learnt.report, 'error: late'),
        () => askStage1(world, machine),
      ]) {
        t.equal((await errorOf(ask())).code, 'refused')
      }
      t.match((await world.events({ kind: 'session-failed' }))[0], {
        actor: 'operator:ann',
        source: '198.51.100.7',
      })
      await enableNode(context, ann, 'node1')
      t.match(await askStage1(world, machine), { template: 'stage1.ipxe' }, 'and boots again when enabled')
    },
  )

  await t.test('removing a node leaves its events, and a node of the same name starts anew', async (t) => {
    const world = await openWorld()
    const { context } = world
    const machine = machineOf(await storeDemoFleet(world))
    const learnt = await boot(world, machine, 'stage2')
    await removeNode(context, ann, 'node1')
    t.match(await errorOf(showNode(context.storage.db, 'node1')), { code: 'not-found' })
    t.equal((await errorOf(askStage(world, machine, 'stage3', learnt.stage3))).code, 'refused')
    for (const table of ['sessions', 'tokens', 'session_stages', 'node_macs', 'node_addresses'] as const) {
      t.same(await context.storage.db.selectFrom(table).selectAll().execute(), [], table)
    }
    await addNode(context, ann, { name: 'node1' })
    const kinds = (await world.kinds({ node: 'node1' })).filter((kind) => kind !== 'refused')
    t.same(kinds.slice(-3), ['session-failed', 'node-removed', 'node-added'])
    t.match(await errorOf(removeNode(context, ann, 'node2')), { code: 'not-found' })
  })

  await t.test('a revision of a removed node is none of the node that takes its name', async (t) => {
    const world = await openWorld()
    const { context } = world
    const revision = async (): Promise<number> => (await nodeRow(world, 'n1')).revision
    await addNode(context, ann, { name: 'n1' })
    t.equal(await revision(), 1, 'a new name begins at 1')
    const seen = new Set<number>()
    const look = async (): Promise<void> => {
      const now = await revision()
      t.notOk(seen.has(now), `revision ${now} is new`)
      seen.add(now)
    }
    await look()
    for (const serial of ['A', 'B', 'C']) {
      await changeNode(context, ann, 'n1', { serial })
      await look()
    }
    await removeNode(context, ann, 'n1')
    await addNode(context, ann, { name: 'n1' })
    await look()
    await changeNode(context, ann, 'n1', { serial: 'D' })
    await look()
    const files = { set: 'default', nodes: [{ name: 'n1' }], profiles: [], channels: [] }
    await applyFleet(context, ann, files)
    await applyFleet(context, ann, { ...files, nodes: [], prune: true, allowMassRemoval: true })
    await applyFleet(context, ann, files)
    await look()
    for (const at of seen) {
      if (at === (await revision())) continue
      const by = { ...ann, precondition: { at: [at] } }
      t.match(await errorOf(changeNode(context, by, 'n1', { serial: 'X' })), { code: 'precondition-failed' })
    }
  })
})
