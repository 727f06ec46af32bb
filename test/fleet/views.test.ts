import t from 'tap'
import { pageOfEvents, verifyEvents } from '../../src/fleet/event-view.ts'
import { pageOfNodes, showNode } from '../../src/fleet/node-view.ts'
import { addNode, disableNode } from '../../src/fleet/nodes.ts'
import { issueSecret, revokeSecret } from '../../src/fleet/secrets.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { askStage1, boot, machineOf, report } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, servedTemplates } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'an enrolment secret is shown once, replaced by the next, and gone when revoked',
    async (t) => {
      const world = await openWorld({ templates: servedTemplates() })
      const { context } = world
      await addNode(context, ann, { name: 'a' })
      t.match(await errorOf(revokeSecret(context, ann, 'a')), {
        code: 'not-found',
        hint: /pawl node secret a/,
      })
      const first = await issueSecret(context, ann, 'a')
      const second = await issueSecret(context, ann, 'a')
      t.not(first.secret, second.secret)
      t.match(second.siteScript, second.secret)
      t.match(second.siteScript, /^#!ipxe/)
      t.match(second.siteScript, 'https://boot.example.test:8443')
      t.equal((await showNode(context.storage.db, 'a')).secret.issued, true)
      const stored = await world.dump()
      for (const { secret } of [first, second]) t.notMatch(stored, secret.slice(12))
      await revokeSecret(context, ann, 'a')
      t.equal((await showNode(context.storage.db, 'a')).secret.issued, false)
      t.same(await world.kinds(), ['node-added', 'secret-issued', 'secret-issued', 'secret-revoked'])
      t.match(await errorOf(issueSecret(context, ann, 'nope')), { code: 'not-found' })
    },
  )

  await t.test('lists by name, state and label, page by page', async (t) => {
    const world = await openWorld()
    const { context } = world
    for (const [name, rack] of [
      ['c', 'r1'],
      ['a', 'r1'],
      ['b', 'R1'],
      ['d', 'r1'],
    ] as const) {
      await addNode(context, ann, { name, labels: { rack }, macs: [`52:54:00:00:00:0${name}`] })
    }
    const list = async (filter: Partial<Parameters<typeof pageOfNodes>[1]>): Promise<unknown> => {
      const { items, next } = await pageOfNodes(context.storage.db, { limit: 10, ...filter })
      return [items.map((node) => `${node.name} ${node.macs}`).join(', '), next]
    }
    await disableNode(context, ann, 'd')
    t.same(await list({ limit: 2 }), ['a 52:54:00:00:00:0a, b 52:54:00:00:00:0b', 'b'])
    t.same(await list({ limit: 2, after: 'b' }), ['c 52:54:00:00:00:0c, d 52:54:00:00:00:0d', null])
    t.same(await list({ labels: { rack: 'r1' }, state: 'registered' }), [
      'a 52:54:00:00:00:0a, c 52:54:00:00:00:0c',
      null,
    ])
    t.same(await list({ labels: { rack: 'r' } }), ['', null])
    t.same(await list({ state: 'disabled' }), ['d 52:54:00:00:00:0d', null])
  })
  await t.test('a timeline tells a boot stage by stage, and why a node does not boot', async (t) => {
    const world = await openWorld()
    const { context, clock } = world
    const asksAs = machineOf(await storeDemoFleet(world))
    t.match(await timelineOf(context, 'node1'), { session: null, stages: [], events: [] })
    await errorOf(askStage1(world, machineOf('wrong')))
    await context.refusals.flush()
    t.match(await timelineOf(context, 'node1'), {
      session: null,
      events: [{ kind: 'refused', detail: { cause: 'wrong-secret' } }],
    })
    clock.advance(60)
    const first = await boot(world, asksAs, 'handover')
    clock.advance(60)
    const second = await boot(world, asksAs, 'join')
    await report(world, asksAs, second.report, 'error: the disk is slow')
    clock.advance(90)
    await errorOf(askStage1(world, machineOf('wrong')))
    await report(world, asksAs, second.report, 'success')
    await context.refusals.flush()
    const timeline = await timelineOf(context, 'node1')
    t.match(timeline.session, {
      id: second.session,
      state: 'ready',
      sequence: 'boot',
      profile: 'demo',
      images: [
        { stage: 'stage2', ref: 'small@1' },
        { stage: 'stage3', ref: 'full@1' },
      ],
      facts: { serial: 'SN1' },
      endedAt: '2026-11-21T06:03:30.000Z',
    })
    t.same(
      timeline.stages.map((stage) => [stage.stage, stage.seconds, stage.outcome]),
      [
        ['stage1', 0, 'done'],
        ['stage2', 0, 'done'],
        ['stage3', 0, 'done'],
        ['join', 90, 'done'],
        ['report', 0, 'ready'],
      ],
    )
    const kinds = timeline.events.map((event) => event.kind)
    for (const kind of ['session-superseded', 'session-opened', 'attempt-failed', 'refused', 'session-ready'])
      t.ok(kinds.includes(kind), kind)
    t.notMatch(JSON.stringify(timeline), /sealed:|"join":\{/)
    const before = await timelineOf(context, 'node1', first.session)
    t.match(before, {
      session: { id: first.session, state: 'superseded', cause: 'a later stage 1' },
      stages: [{ stage: 'stage1', seconds: 60, outcome: 'superseded' }],
    })
    t.ok(before.events.every((event) => event.session === first.session))
    await addNode(context, ann, { name: 'node2' })
    t.match(await errorOf(timelineOf(context, 'node2', first.session)), {
      code: 'not-found',
      message: /node "node2" has no session/,
    })
    t.match(await errorOf(timelineOf(context, 'node3')), { code: 'not-found' })
  })

  await t.test('events are paged from a cursor, or the newest shown; an edited one is found', async (t) => {
    const world = await openWorld({ verify: false })
    const { context } = world
    const { db } = context.storage
    for (const name of ['a', 'b', 'c', 'd', 'e']) await addNode(context, ann, { name })
    const names = async (filter: object): Promise<unknown> => {
      const { items, next } = await pageOfEvents(db, { limit: 2, ...filter })
      return [items.map((event) => event.node).join(''), next === null]
    }
    t.same(await names({}), ['de', true])
    t.same(await names({ after: 0 }), ['ab', false])
    const { next } = await pageOfEvents(db, { limit: 2, after: 0 })
    t.same(await names({ after: next }), ['cd', false])
    t.same(await names({ since: world.clock.now(), limit: 5 }), ['abcde', true])
    t.same(await names({ node: 'c' }), ['c', true])
    t.match(await verifyEvents(db), {
      ok: true,
      chains: 5,
      events: 5,
      faults: [],
      note: /checkpoint kept elsewhere/,
    })
    await db.updateTable('events').set({ actor: 'operator:bob' }).where('node', '=', 'c').execute()
    t.match(await verifyEvents(db), { ok: false, faults: [{ chain: 'node/c', seq: 1, fault: 'edited' }] })
  })
})
