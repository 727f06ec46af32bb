import { randomBytes } from 'node:crypto'
import type { KyselyPlugin } from 'kysely'
import t, { type Test } from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import {
  cancelCampaign,
  listCampaigns,
  pageOfCampaign,
  pauseCampaign,
  resumeCampaign,
  showCampaign,
  tendReinstalls,
} from '../../src/fleet/campaigns.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { changeNode, disableNode, removeNode } from '../../src/fleet/nodes.ts'
import { type ReinstallRequest, reinstall } from '../../src/fleet/reinstall.ts'
import type { Tx } from '../../src/storage/database.ts'
import { verifyChains } from '../../src/storage/events.ts'
import { insertSession } from '../../src/storage/sessions.ts'
import type { SessionRow } from '../../src/storage/tables.ts'
import { newNode, nodeRow, storeDemoFleet } from '../helpers/fleet.ts'
import { askHandover, askStage1, boot, type Machine, report } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { forEachDatabase, openAt, type World, type WorldOptions } from '../helpers/world.ts'

interface Fleet {
  readonly world: World
  readonly machines: ReadonlyMap<string, Machine>
}

/** A world with nodes `n001`, `n002`, …, each with the machine that boots as it. */
async function fleetOf(world: World, size: number): Promise<Fleet> {
  await storeDemoFleet(world)
  await world.context.storage.db.deleteFrom('nodes').execute()
  const machines = new Map<string, Machine>()
  const rows = Array.from({ length: size }, (_, index) => {
    const name = `n${String(index + 1).padStart(3, '0')}`
    const secret = tokenFromRandom(world.context.randomBytes(33))
    const fields = { serial: name, platform: 'efi', secret: secret.text }
    machines.set(name, { host: name, source: '192.0.2.10', fields })
    return newNode(name, secret, world.clock.now().toISOString())
  })
  await world.context.storage.db.insertInto('nodes').values(rows).execute()
  return { world, machines }
}

const names = (...numbers: number[]): string[] => numbers.map((n) => `n${String(n).padStart(3, '0')}`)

async function inState(world: World, id: string, state: 'waiting' | 'marked' | 'serving'): Promise<string[]> {
  const { items } = await pageOfCampaign(world.context, id, { state, limit: 1000 })
  return items.map(({ name }) => name)
}

async function start({ world }: Fleet, more: Partial<ReinstallRequest> = {}): Promise<string> {
  const { campaign } = await reinstall(world.context, ann, { match: 'n*', ...more })
  return campaign?.id ?? ''
}

function machineNamed({ machines }: Fleet, name: string): Machine {
  const machine = machines.get(name)
  if (machine === undefined) throw new Error(name)
  return machine
}

async function machineBoots(fleet: Fleet, name: string, until?: 'stage2'): Promise<void> {
  await boot(fleet.world, machineNamed(fleet, name), until)
}

/** Fails a node's reinstall until it is held. */
async function machineFails(fleet: Fleet, name: string): Promise<void> {
  const { world } = fleet
  const machine = machineNamed(fleet, name)
  for (let attempts = 0; attempts < world.context.settings.maxReinstallAttempts; attempts += 1) {
    const learnt = await boot(world, machine, 'stage2')
    await report(world, machine, learnt.report, 'error: no disk', { final: true })
    world.clock.advance(60)
  }
}

await forEachDatabase(t, async (t, openWorld) => {
  const open = async (size: number, options: WorldOptions = {}): Promise<Fleet> =>
    fleetOf(await openWorld(options), size)

  await t.test('refuses limits that are none, and nodes that another campaign has', async (t) => {
    const fleet = await open(3)
    const { context } = fleet.world
    const table: [Partial<ReinstallRequest>, RegExp][] = [
      [{ maxParallel: 0 }, /maxParallel 0 is not 1 to 100000/],
      [{ maxParallel: 1.5 }, /maxParallel/],
      [{ maxFailures: -1 }, /maxFailures/],
      [{ expiresSeconds: 59 }, /60 s to 365 days/],
      [{ expiresSeconds: 400 * 86_400 }, /60 s to 365 days/],
      [{ force: true, skipFailing: true }, /forced or skipped/],
      [{ cancel: true, maxParallel: 2 }, /not for taking marks back/],
    ]
    for (const [more, message] of table)
      t.match(await errorOf(start(fleet, more)), { code: 'invalid', message }, JSON.stringify(more))
    t.same(await listCampaigns(context), [])
    const id = await start(fleet, { maxParallel: 1 })
    t.match(await errorOf(start(fleet)), {
      code: 'conflict',
      message: new RegExp(`^3 of 3 nodes.*node "n001" is in reinstall ${id}; node "n002" waits in reinstall`),
      hint: new RegExp(`pawl reinstall show ${id}`),
    })
    t.match(await errorOf(reinstall(context, ann, { nodes: names(2) })), { code: 'conflict' })
    await reinstall(context, ann, { nodes: names(1) })
    t.match(
      await showCampaign(context, id),
      { counts: { marked: 1, waiting: 2 } },
      'marked anew, in its place',
    )
    for (const act of [pauseCampaign, resumeCampaign, cancelCampaign])
      t.match(await errorOf(act(context, ann, 'nope')), { code: 'not-found', hint: /pawl reinstall list/ })
    t.match(await errorOf(showCampaign(context, 'nope')), { code: 'not-found' })
    t.match(await errorOf(resumeCampaign(context, ann, id)), { code: 'conflict', message: /is running/ })
  })

  await t.test('so many at a time, the next is marked by what ends the one before', async (t) => {
    const fleet = await open(4)
    const { world } = fleet
    const { context } = world
    const dry = await reinstall(context, ann, { match: 'n*', maxParallel: 2, dryRun: true })
    t.match(dry, { applied: false, campaign: null })
    t.same(
      dry.nodes.map(({ after, waits = false }) => [after, waits]),
      [
        ['marked', false],
        ['marked', false],
        ['none', true],
        ['none', true],
      ],
    )
    const id = await start(fleet, { maxParallel: 2 })
    t.same(await inState(world, id, 'marked'), names(1, 2))
    t.same(await inState(world, id, 'waiting'), names(3, 4))
    t.match(await showNode(context.storage.db, 'n003'), {
      reinstall: 'none',
      campaign: { id, state: 'waiting' },
    })
    await machineBoots(fleet, 'n003')
    t.match((await world.events({ kind: 'session-opened' })).at(-1)?.detail, { sequence: 'boot' }, 'it waits')
    await machineBoots(fleet, 'n002', 'stage2')
    t.match(await showCampaign(context, id), { counts: { waiting: 2, marked: 1, serving: 1, done: 0 } })
    world.clock.advance(60)
    await machineBoots(fleet, 'n002')
    t.same(await inState(world, id, 'marked'), names(1, 3))
    t.match(await showNode(context.storage.db, 'n002'), { reinstall: 'none', campaign: null })
    await machineFails(fleet, 'n001')
    t.match(await showNode(context.storage.db, 'n001'), {
      state: 'held',
      reinstall: 'marked',
      campaign: null,
    })
    t.same(await inState(world, id, 'marked'), names(3, 4))
    await machineBoots(fleet, 'n003')
    await machineBoots(fleet, 'n004')
    t.match(await showCampaign(context, id), {
      state: 'completed',
      counts: { done: 3, failed: 1, waiting: 0, marked: 0 },
      failures: 1,
    })
    t.match((await pageOfCampaign(context, id, { limit: 10, state: 'failed' })).items, [
      { name: 'n001', cause: 'it failed 3 times and is held', nodeState: 'held' },
    ])
    t.match(
      (await world.events()).filter(({ kind }) => kind.startsWith('campaign-')),
      [
        {
          kind: 'campaign-started',
          actor: 'operator:ann',
          detail: { campaign: id, nodes: 4, maxParallel: 2 },
        },
        { kind: 'campaign-completed', actor: 'server', detail: { campaign: id, done: 3, failed: 1 } },
      ],
    )
    const later = (await world.events({ node: 'n003', kind: 'reinstall-marked' }))[0]
    t.match(later, { actor: 'server', detail: { campaign: id } })
    t.match(await errorOf(cancelCampaign(context, ann, id)), { code: 'conflict', message: /is completed/ })
  })

  await t.test('a place is given back by every way out of a reinstall', async (t) => {
    const ways: Record<string, (fleet: Fleet) => Promise<void>> = {
      cancelled: ({ world }) =>
        reinstall(world.context, ann, { nodes: names(1), cancel: true }).then(() => {}),
      expired: async ({ world }) => {
        world.clock.advance(3600)
        await tendReinstalls(world.context)
      },
      disabled: async ({ world }) => {
        await disableNode(world.context, ann, 'n001')
      },
      removed: ({ world }) => removeNode(world.context, ann, 'n001'),
      'removed by a fleet file': async ({ world }) => {
        const files = { set: 's', profiles: [], channels: [] }
        const nodes = names(1).map((name) => ({ name }))
        await applyFleet(world.context, ann, { ...files, nodes })
        await applyFleet(world.context, ann, { ...files, nodes: [], prune: true, allowMassRemoval: true })
      },
      done: (fleet) => machineBoots(fleet, 'n001'),
      failed: (fleet) => machineFails(fleet, 'n001'),
    }
    for (const [way, leave] of Object.entries(ways)) {
      const fleet = await open(2)
      const { world } = fleet
      const id = await start(fleet, { maxParallel: 1, expiresSeconds: 3600 })
      await leave(fleet)
      t.same(await inState(world, id, 'marked'), names(2), way)
      const { counts } = await showCampaign(world.context, id)
      if (!way.startsWith('removed'))
        t.equal(counts[way === 'disabled' ? 'cancelled' : (way as 'done')], 1, way)
      if (way !== 'disabled') continue
      t.match((await pageOfCampaign(world.context, id, { limit: 10, state: 'cancelled' })).items, [
        { name: 'n001', cause: 'it was disabled; its mark stays', nodeState: 'disabled' },
      ])
      t.equal((await nodeRow(world, 'n001')).reinstall, 'marked')
    }
  })

  await t.test('a cancelled node keeps its place until the session that went on is over', async (t) => {
    const fleet = await open(3)
    const { world } = fleet
    const { context } = world
    const id = await start(fleet, { maxParallel: 1 })
    await machineBoots(fleet, 'n001', 'stage2')
    await reinstall(context, ann, { nodes: names(1), cancel: true })
    await tendReinstalls(context)
    t.match(await showCampaign(context, id), { counts: { cancelled: 1, marked: 0, waiting: 2 } })
    t.same(await inState(world, id, 'marked'), [], 'its session still loads')
    world.clock.advance(60)
    await machineBoots(fleet, 'n001', 'stage2')
    t.match((await world.events({ kind: 'session-opened' })).at(-1)?.detail, { sequence: 'boot' })
    await tendReinstalls(context)
    t.same(await inState(world, id, 'marked'), names(2))
    await machineBoots(fleet, 'n002')
    await reinstall(context, ann, { nodes: names(1) })
    world.clock.advance(60)
    await machineBoots(fleet, 'n001', 'stage2')
    await machineBoots(fleet, 'n003')
    t.match(await showCampaign(context, id), { state: 'completed', counts: { cancelled: 1, done: 2 } })
  })

  await t.test(
    'a node whose turn comes and who cannot be marked any more is left out, with the reason',
    async (t) => {
      const fleet = await open(4)
      const { world } = fleet
      const { context } = world
      const id = await start(fleet, { maxParallel: 1 })
      await disableNode(context, ann, 'n002')
      await changeNode(context, ann, 'n003', { profile: null })
      await machineBoots(fleet, 'n001')
      t.same(await inState(world, id, 'marked'), names(4))
      t.match((await pageOfCampaign(context, id, { limit: 10, state: 'skipped' })).items, [
        { name: 'n002', cause: 'it is disabled' },
        { name: 'n003', cause: 'it has no profile' },
      ])
      t.same(await world.kinds({ kind: 'campaign-node-skipped' }), [
        'campaign-node-skipped',
        'campaign-node-skipped',
      ])
    },
  )

  await t.test('too many failures pause it; what waits goes on when it is resumed', async (t) => {
    const fleet = await open(4)
    const { world } = fleet
    const { context } = world
    const id = await start(fleet, { maxParallel: 1, maxFailures: 1 })
    await machineFails(fleet, 'n001')
    t.match(await showCampaign(context, id), {
      state: 'paused',
      cause: '1 of its nodes failed',
      counts: { waiting: 3, marked: 0, failed: 1 },
    })
    await tendReinstalls(context)
    t.same(await inState(world, id, 'marked'), [])
    t.match(await errorOf(pauseCampaign(context, ann, id)), { code: 'conflict' })
    t.match(await resumeCampaign(context, ann, id), { state: 'running', cause: null, failures: 0 })
    t.same(await inState(world, id, 'marked'), names(2))
    await pauseCampaign(context, ann, id)
    await machineBoots(fleet, 'n002')
    t.same(await inState(world, id, 'marked'), [], 'what was under way goes on, nothing follows')
    t.match(await cancelCampaign(context, ann, id), {
      state: 'cancelled',
      counts: { done: 1, failed: 1, cancelled: 2 },
    })
    t.same(
      (await world.kinds()).filter((kind) => kind.startsWith('campaign-')),
      ['campaign-started', 'campaign-paused', 'campaign-resumed', 'campaign-paused', 'campaign-cancelled'],
    )
  })

  await t.test('cancelled, its marks are gone, and a session that runs goes on without one', async (t) => {
    const fleet = await open(3)
    const { world } = fleet
    const { context } = world
    const id = await start(fleet, { maxParallel: 2 })
    await machineBoots(fleet, 'n001', 'stage2')
    await cancelCampaign(context, ann, id)
    for (const name of names(1, 2, 3))
      t.match(await showNode(context.storage.db, name), { reinstall: 'none', campaign: null })
    t.match(await showNode(context.storage.db, 'n001'), { state: 'booting' })
    await reinstall(context, ann, { match: 'n*' })
    t.equal((await listCampaigns(context)).length, 2)
    const second = await start(fleet, { maxParallel: 1 })
    const first = (await listCampaigns(context)).find(
      ({ state, counts }) => state !== 'cancelled' && counts.moved === 3,
    )
    t.match(first, { state: 'completed' }, 'one without a limit is taken over by the next')
    t.same(await inState(world, second, 'marked'), names(1))
    await reinstall(context, ann, { match: 'n00[23]'.replace('[23]', '?'), cancel: true })
    t.match(await showCampaign(context, second), { state: 'completed', counts: { cancelled: 3 } })
  })

  await t.test(
    'a mark runs out where no boot has served it; one whose reinstall began does not',
    async (t) => {
      const fleet = await open(4, { settings: { reinstallMarkSeconds: 3600, maxReinstallAttempts: 1 } })
      const { world } = fleet
      const { context, clock } = world
      await reinstall(context, ann, { nodes: names(1) })
      await reinstall(context, ann, { nodes: names(2), expiresSeconds: 0 })
      await reinstall(context, ann, { nodes: names(3, 4) })
      await machineBoots(fleet, 'n003', 'stage2')
      clock.advance(3599)
      await tendReinstalls(context)
      t.equal((await nodeRow(world, 'n001')).reinstall, 'marked')
      clock.advance(1)
      const machine = fleet.machines.get('n001')
      if (machine !== undefined) await askStage1(world, machine)
      t.match(
        (await world.events({ kind: 'session-opened' })).at(-1)?.detail,
        { sequence: 'boot' },
        'stage 1 does not wait for the chore',
      )
      await tendReinstalls(context)
      t.same(
        (await world.events({ kind: 'reinstall-expired' })).map(({ node, actor }) => [node, actor]),
        [
          ['n001', 'server'],
          ['n004', 'server'],
        ],
      )
      t.equal((await nodeRow(world, 'n002')).reinstall, 'marked', 'for ever')
      t.equal((await nodeRow(world, 'n003')).reinstall, 'serving', 'never while a boot serves it')
      clock.advance(3 * 3600)
      await machineBoots(fleet, 'n003', 'stage2').catch(() => {})
      await tendReinstalls(context)
      t.match(
        await nodeRow(world, 'n003'),
        { reinstall: 'marked', state: 'held' },
        'it never falls back to its boot',
      )
      await reinstall(context, ann, { nodes: names(1) })
      await reinstall(context, ann, { nodes: names(1), expiresSeconds: 0 })
      clock.advance(7200)
      await tendReinstalls(context)
      t.equal((await nodeRow(world, 'n001')).reinstall, 'marked', 'the later word counts')
    },
  )

  await t.test('nodes whose last reinstalls failed: refused by name, left out, or forced', async (t) => {
    const fleet = await open(3, { settings: { maxReinstallFailures: 3 } })
    const { world } = fleet
    const { context, clock } = world
    let ids = 0
    /** Sessions of `n001` that ended so, the last last. */
    const ended = async (...states: [SessionRow['state'], SessionRow['stage']][]): Promise<void> => {
      for (const [state, stage] of states) {
        ids += 1
        clock.advance(60)
        const at = clock.now().toISOString()
        const session: SessionRow = {
          ...{
            id: `s${ids}`,
            node: 'id-n001',
            sequence: 'reinstall',
            tokens: 'native',
            local: 0,
            state,
            stage,
          },
          ...{ cause: null, pinned: '{}', facts: '{}', source: '192.0.2.1', started_at: at },
          ...{ last_seen_at: at, expires_at: at, ended_at: at },
        }
        await context.storage.transaction((tx) => insertSession(tx, session))
      }
    }
    await ended(['failed', 'stage2'], ['expired', 'stage3'])
    t.match(await reinstall(context, ann, { match: 'n*', dryRun: true }), { nodes: { length: 3 } }, 'twice')
    await ended(['failed', 'stage1'], ['superseded', 'stage2'])
    t.match(
      await reinstall(context, ann, { match: 'n*', dryRun: true }),
      { nodes: { length: 3 } },
      'what did not come to stage 2, and what a later boot retired, does not count',
    )
    await ended(['failed', 'join'])
    t.match(await errorOf(start(fleet)), {
      code: 'conflict',
      message:
        '1 of 3 nodes stand against it, so nothing was changed: node "n001": its last 3 reinstalls failed',
      hint: /--force marks it all the same, --skip-failing leaves such nodes out/,
    })
    t.match(await reinstall(context, ann, { match: 'n*', dryRun: true, force: true }), {
      nodes: [{ name: 'n001', after: 'marked' }, {}, {}],
    })
    const { nodes, campaign } = await reinstall(context, ann, { match: 'n*', skipFailing: true })
    t.match(nodes[0], {
      name: 'n001',
      before: 'none',
      after: 'none',
      skipped: 'its last 3 reinstalls failed',
    })
    t.match(campaign, { nodes: 2, counts: { marked: 2 } })
    t.equal((await nodeRow(world, 'n001')).reinstall, 'none')
    t.match(await errorOf(reinstall(context, ann, { nodes: names(1), skipFailing: true })), {
      code: 'conflict',
      message: /every node is left out/,
    })
    await reinstall(context, ann, { nodes: names(1), force: true })
    await reinstall(context, ann, { nodes: names(1), cancel: true })
    await ended(['ready', 'report'])
    await reinstall(context, ann, { nodes: names(1) })
    t.equal((await nodeRow(world, 'n001')).reinstall, 'marked', 'one success, and it counts anew')
  })

  await t.test('five hundred nodes are marked and taken back in a few statements', async (t) => {
    const { world } = await open(500)
    const { counted, statements } = countingStatements(world.context)
    await reinstall(counted, ann, { nodes: ['n500'] })
    const before = (await nodeRow(world, 'n500')).revision
    statements.length = 0
    const { campaign } = await reinstall(counted, ann, { match: 'n*' })
    t.ok(statements.length > 10 && statements.length < 50, `marked in ${statements.length}`)
    statements.length = 0
    await cancelCampaign(counted, ann, campaign?.id ?? '')
    t.ok(statements.length > 5 && statements.length < 30, `cancelled in ${statements.length}`)
    t.equal((await nodeRow(world, 'n500')).revision, before + 2, 'each counts its revision up')
    t.match(await world.events({ node: 'n500' }), [
      { kind: 'reinstall-marked', detail: { before: 'none' } },
      {
        kind: 'reinstall-marked',
        actor: 'operator:ann',
        detail: { before: 'marked', campaign: campaign?.id },
      },
      { kind: 'reinstall-cancelled', actor: 'operator:ann', detail: { before: 'marked', session: null } },
    ])
    t.same((await verifyChains(world.context.storage.db)).faults, [])
  })

  // What is proved is the counting; each boot on PostgreSQL costs several times as much.
  const size = t.name === 'on PostgreSQL' ? 250 : 1000
  await t.test(`${size} nodes, fifty at a time: never more, and all of them in the end`, async (t) => {
    const fleet = await open(size)
    const { world } = fleet
    const { context } = world
    const { db } = context.storage
    const id = await start(fleet, { maxParallel: 50 })
    let most = 0
    for (let rounds = 0; rounds < 30; rounds += 1) {
      const under = await db.selectFrom('nodes').select('name').where('reinstall', '<>', 'none').execute()
      most = Math.max(most, under.length)
      if (under.length === 0) break
      const tokens = new Map<string, string>()
      await inGroups(under, 25, async ({ name }) => {
        const machine = machineNamed(fleet, name)
        const { handoverToken } = await askStage1(world, machine)
        tokens.set(name, (await askHandover(world, machine, handoverToken)).report)
      })
      // The stages in between are no matter here, and most of the time.
      await db.updateTable('sessions').set({ state: 'joining' }).where('state', '=', 'stage1').execute()
      await inGroups(under, 25, ({ name }) =>
        report(world, machineNamed(fleet, name), tokens.get(name), 'success'),
      )
    }
    t.equal(most, 50)
    t.match(await showCampaign(context, id), { state: 'completed', counts: { done: size, waiting: 0 } })
    t.equal((await world.kinds({ kind: 'reinstall-marked', limit: 2000 })).length, size)
  })
})

/** The same, with the statements of its transactions listed. */
function countingStatements(context: BootContext): { counted: BootContext; statements: string[] } {
  const statements: string[] = []
  const plugin: KyselyPlugin = {
    transformQuery: ({ node }) => {
      statements.push(node.kind)
      return node
    },
    transformResult: async ({ result }) => result,
  }
  const storage: BootContext['storage'] = {
    ...context.storage,
    transaction: (work) => context.storage.transaction((tx) => work(tx.withPlugin(plugin) as Tx)),
  }
  return { counted: { ...context, storage }, statements }
}

async function inGroups<T>(all: readonly T[], size: number, work: (one: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < all.length; at += size) await Promise.all(all.slice(at, at + size).map(work))
}

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
await t.test(
  'two replicas on one PostgreSQL that boot and tend at once never mark more than the limit',
  absent === undefined ? {} : { skip: absent },
  async (t: Test) => {
    const url = await (await startPostgres()).createDatabase()
    const one = await openAt(t, url, {})
    const second = await openAt(t, url, {})
    // Both would make the same tokens from the repeatable randomness of the tests.
    const two: World = { ...second, context: { ...second.context, randomBytes } }
    const fleet = await fleetOf(one, 60)
    const id = await start(fleet, { maxParallel: 7 })
    const { db } = one.context.storage
    let most = 0
    let watching = true
    const watch = (async () => {
      while (watching) {
        const marked = await db.selectFrom('nodes').select('name').where('reinstall', '<>', 'none').execute()
        most = Math.max(most, marked.length)
      }
    })()
    for (let rounds = 0; rounds < 20; rounds += 1) {
      const under = await db.selectFrom('nodes').select('name').where('reinstall', '<>', 'none').execute()
      if (under.length === 0) break
      await Promise.all([
        ...under.map(({ name }, index) =>
          machineBoots({ ...fleet, world: index % 2 === 0 ? one : two }, name),
        ),
        ...[one, two, one, two].map(({ context }) => tendReinstalls(context)),
      ])
      await tendReinstalls(one.context)
    }
    watching = false
    await watch
    t.equal(most, 7)
    t.match(await showCampaign(one.context, id), { state: 'completed', counts: { done: 60 } })
  },
)
