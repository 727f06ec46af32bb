import t from 'tap'
import { type ReinstallState, reinstallTransitions } from '../../src/domain/state.ts'
import { parseGlob } from '../../src/fleet/glob.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { addNode, changeNode, disableNode } from '../../src/fleet/nodes.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { reinstall } from '../../src/fleet/reinstall.ts'
import { nodeRow, storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { askStage1, boot, machineOf } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const marks = Object.keys(reinstallTransitions) as ReinstallState[]

/** Puts a node's mark into a state; `serving` by booting it that far. */
async function markAs(world: World, secret: string, mark: ReinstallState): Promise<void> {
  if (mark === 'none') return
  await reinstall(world.context, ann, { nodes: ['node1'] })
  if (mark === 'serving') await boot(world, machineOf(secret), 'stage2')
}

await t.test('patterns of names: the whole name, * and ? and nothing else', async (t) => {
  const table: [string, string, boolean][] = [
    ['*', '', true],
    ['*', 'a.b', true],
    ['a*', 'abc', true],
    ['a*', 'ba', false],
    ['*a', 'ba', true],
    ['*.lab', 'n1.lab', true],
    ['*.lab', 'n1.lab2', false],
    ['n?', 'n1', true],
    ['n?', 'n', false],
    ['n?', 'n12', false],
    ['a*b*c', 'aXbXbXc', true],
    ['a*b*c', 'aXcXb', false],
    ['a.b', 'aXb', false],
    ['**a', 'a', true],
  ]
  for (const [pattern, name, fits] of table) t.equal(parseGlob(pattern)(name), fits, `${pattern} ${name}`)
  for (const bad of ['', 'A', 'a b', '[ab]', '{a,b}', 'a'.repeat(254)]) {
    t.throws(() => parseGlob(bad), { code: 'invalid' }, bad)
  }
  const before = process.cpuUsage()
  parseGlob('*a'.repeat(100))('a'.repeat(253).replace(/.$/, 'b'))
  t.ok(process.cpuUsage(before).user < 1e6, 'many * take no longer than few')
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('marks and cancels in every state of the mark as its table says', async (t) => {
    for (const before of marks) {
      for (const cancel of [false, true]) {
        const world = await openWorld()
        const secret = await storeDemoFleet(world)
        await markAs(world, secret, before)
        const after = reinstallTransitions[before][cancel ? 'cancel' : 'mark']
        const work = reinstall(world.context, ann, { nodes: ['node1'], cancel })
        const what = `${cancel ? 'cancel' : 'mark'} in ${before}`
        if (after === undefined) {
          const error = await errorOf(work)
          t.match(error, { code: 'conflict' }, what)
          t.ok(error.hint.length > 0, 'with a hint')
          t.equal((await nodeRow(world)).reinstall, before, what)
        } else {
          const plan = await work
          t.match(plan, { applied: true, nodes: [{ name: 'node1', before, after }] }, what)
          t.equal(plan.nodes[0]?.warning !== undefined, before === 'serving', `${what}: warning`)
          t.equal((await nodeRow(world)).reinstall, after, what)
        }
      }
    }
  })

  await t.test(
    'refuses nodes that cannot be reinstalled, all of them with the one, and says what to do',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await storeDemoFleet(world)
      await applyProfile(context, ann, 'local', { name: 'local', boot: 'local' })
      await addNode(context, ann, { name: 'bare' })
      await addNode(context, ann, { name: 'localonly', profile: 'local' })
      await storeNode(world, { name: 'off', state: 'disabled' })
      const table: [string, RegExp, RegExp][] = [
        ['bare', /node "bare" has no profile/, /pawl node set bare --profile/],
        ['localonly', /profile "local", which has no reinstall sequence/, /add one/],
        ['off', /node "off" is disabled/, /pawl node enable off/],
      ]
      for (const [name, message, hint] of table) {
        t.match(await errorOf(reinstall(context, ann, { nodes: [name] })), {
          code: 'conflict',
          message,
          hint,
        })
        const error = await errorOf(reinstall(context, ann, { nodes: ['node1', name] }))
        t.match(error, { code: 'conflict', message: /1 of 2 nodes stand against it, so nothing was changed/ })
      }
      const all = await errorOf(reinstall(context, ann, { match: '*' }))
      t.match(all.message, /^3 of 4 nodes/)
      t.equal((await nodeRow(world)).reinstall, 'none')
      t.match(await errorOf(reinstall(context, ann, { nodes: ['node1', 'nope'] })), {
        code: 'not-found',
        message: /"nope"/,
      })
      t.match(await errorOf(reinstall(context, ann, { match: 'x*' })), {
        code: 'not-found',
        message: 'no node matches',
      })
      for (const bad of [
        {},
        { nodes: ['node1'], match: '*' },
        { match: '[' },
        { label: 'a=b c' },
        { label: 'rack' },
      ]) {
        t.match(await errorOf(reinstall(context, ann, bad)), { code: 'invalid' })
      }
      t.same(await world.kinds({ kind: 'reinstall-marked' }), [])
    },
  )

  await t.test('a dry run tells the same plan and writes nothing', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    await storeNode(world, { name: 'node2', labels: '{"rack":"r1"}' })
    const before = await world.dump()
    const dry = await reinstall(context, ann, { match: 'node?', dryRun: true })
    t.equal(await world.dump(), before)
    t.match(dry, { applied: false, campaign: null })
    const wet = await reinstall(context, ann, { match: 'node?' })
    t.match(wet, { nodes: dry.nodes, applied: true, campaign: { nodes: 2, counts: { marked: 2 } } })
    t.same(dry.nodes, [
      { name: 'node1', before: 'none', after: 'marked' },
      { name: 'node2', before: 'none', after: 'marked' },
    ])
    t.match(await reinstall(context, ann, { label: 'rack=r1', cancel: true }), {
      nodes: [{ name: 'node2', before: 'marked', after: 'none' }],
    })
    t.same(
      (await reinstall(context, ann, { match: '*', cancel: true })).nodes,
      [
        { name: 'node1', before: 'marked', after: 'none' },
        { name: 'node2', before: 'none', after: 'none' },
      ],
      'a node without a mark among many stays as it is',
    )
    t.equal((await world.kinds({ kind: 'reinstall-cancelled' })).length, 2)
  })

  await t.test('marking again begins the attempts anew, lets a held node go, and arms it', async (t) => {
    const world = await openWorld({ settings: { maxReinstallAttempts: 1 } })
    const { context } = world
    const secret = await storeDemoFleet(world)
    const machine = machineOf(secret)
    await markAs(world, secret, 'serving')
    world.clock.advance(3 * 3600)
    t.match(await askStage1(world, machine), { template: 'held.ipxe' })
    t.match(await showNode(context.storage.db, 'node1'), {
      state: 'held',
      reinstall: 'marked',
      reinstallAttempts: 1,
    })
    await reinstall(context, ann, { nodes: ['node1'] })
    t.match(await showNode(context.storage.db, 'node1'), {
      state: 'registered',
      reinstall: 'marked',
      reinstallAttempts: 0,
      armed: true,
    })
    const released = (await world.events({ kind: 'node-changed' })).at(-1)
    t.match(released, {
      actor: 'operator:ann',
      detail: { before: { state: 'held' }, after: { state: 'registered' } },
    })
    t.match(await askStage1(world, machine), { template: 'stage1.ipxe' })
    t.equal((await nodeRow(world)).reinstall, 'serving')
  })

  await t.test('cancelling lets a held node go, to boot as it did', async (t) => {
    const world = await openWorld()
    const secret = await storeDemoFleet(world)
    const held = { state: 'held', reinstall: 'marked', reinstall_attempts: 3 } as const
    await world.context.storage.db.updateTable('nodes').set(held).execute()
    await reinstall(world.context, ann, { nodes: ['node1'], cancel: true })
    t.match(await nodeRow(world), { state: 'registered', reinstall: 'none', reinstall_attempts: 0 })
    await askStage1(world, machineOf(secret))
    t.match((await world.events({ kind: 'session-opened' }))[0]?.detail, { sequence: 'boot' })
  })

  await t.test(
    'a session whose mark was cancelled neither clears nor brings back a later mark',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      const secret = await storeDemoFleet(world)
      await markAs(world, secret, 'serving')
      await reinstall(context, ann, { nodes: ['node1'], cancel: true })
      await reinstall(context, ann, { nodes: ['node1'] })
      await disableNode(context, ann, 'node1')
      t.match(await nodeRow(world), { reinstall: 'marked', reinstall_session: null })
      await changeNode(context, ann, 'node1', { profile: null })
      t.equal((await nodeRow(world)).reinstall, 'marked')
    },
  )
})
