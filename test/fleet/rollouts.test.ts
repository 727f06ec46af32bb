import t, { type Test } from 'tap'
import { readPinned } from '../../src/boot/pin.ts'
import type { ImageName } from '../../src/domain/image.ts'
import { approveProposal } from '../../src/fleet/approvals.ts'
import type { By } from '../../src/fleet/change.ts'
import { move, protectChannel, showChannel } from '../../src/fleet/channels.ts'
import { disableNode, enableNode, removeNode } from '../../src/fleet/nodes.ts'
import { showRollout } from '../../src/fleet/rollout-view.ts'
import {
  abortRollout,
  pauseRollout,
  resumeRollout,
  startRollout,
  tendRollouts,
} from '../../src/fleet/rollouts.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { publishImage, storeNode, storeProfile } from '../helpers/fleet.ts'
import {
  askHandover,
  askStage,
  boot,
  type Learnt,
  type Machine,
  machineOf,
  report,
  type Until,
} from '../helpers/machine.ts'
import { errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'
import { memoryStore } from '../images/memory-store.ts'

const { store } = memoryStore()
const stable = { name: 'full' as ImageName, channel: 'stable' }
const pat: By = { actor: 'operator:pat', source: null, role: 'publisher' }

/** A fleet that follows full/stable, which is at version 1. */
class Fleet {
  readonly world: World
  readonly names: readonly string[]
  readonly #secrets = new Map<string, string>()

  constructor(world: World, size: number) {
    this.world = world
    this.names = Array.from({ length: size }, (_, i) => `node${String(i).padStart(4, '0')}`)
  }

  async store(labels: (index: number) => object = () => ({})): Promise<this> {
    const { world } = this
    for (const [ref, letter] of [
      ['small@1', 'a'],
      ['full@1', 'b'],
      ['full@2', 'c'],
    ] as const)
      await publishImage(world, ref, letter, ref !== 'small@1')
    await storeProfile(world, { name: 'demo', boot: { stage2: 'small@1', stage3: 'full/stable' } })
    for (const [index, name] of this.names.entries())
      this.#secrets.set(name, await storeNode(world, { name, labels: JSON.stringify(labels(index)) }))
    await move(world.context, pat, stable, { how: 'set', version: '1', why: null })
    return this
  }

  /** Boots a node up to a step; says which version it got. */
  async boot(name: string, until: Until = 'ready'): Promise<Learnt & { image: string }> {
    const learnt = await boot(this.world, this.machineOf(name), until)
    return { ...learnt, image: await this.imageOf(name) }
  }

  /** Boots a node whose system fails with version 2: it ends in an error that is final. */
  async bootBad(name: string): Promise<string> {
    const learnt = await this.boot(name, 'join')
    await this.report(name, learnt, learnt.image === 'full@2' ? 'error: no NIC' : 'success')
    return learnt.image
  }

  /** Goes on from stage 1 to ready. */
  async finish(name: string, learnt: Learnt): Promise<void> {
    const machine = this.machineOf(name)
    Object.assign(learnt, await askHandover(this.world, machine, learnt.handoverToken))
    const { token: stage3 } = await askStage(this.world, machine, 'stage2', learnt.stage2)
    const { token: join } = await askStage(this.world, machine, 'stage3', stage3)
    await askStage(this.world, machine, 'join', join)
    await this.report(name, learnt, 'success')
  }

  report(name: string, learnt: Learnt, message: string): Promise<void> {
    const final = message !== 'success'
    return report(this.world, this.machineOf(name), learnt.report, message, { final })
  }

  machineOf(name: string): Machine {
    return machineOf(this.#secrets.get(name) ?? '', { host: name })
  }

  /** The stage-3 image of a node's last session. */
  async imageOf(name: string): Promise<string> {
    const { pinned } = await this.world.context.storage.db
      .selectFrom('sessions')
      .innerJoin('nodes', 'nodes.session', 'sessions.id')
      .select('pinned')
      .where('nodes.name', '=', name)
      .executeTakeFirstOrThrow()
    return readPinned(pinned).images?.stage3.ref ?? ''
  }
}

async function openFleet(openWorld: OpenWorld, size: number): Promise<Fleet> {
  return new Fleet(await openWorld(), size).store()
}

const waves = ['1', '50%', '100%']

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses a rollout that cannot be', (t) => refusals(t, openWorld))
  await t.test('waves go on when their boots succeed, then the channel moves', (t) => goesOn(t, openWorld))
  await t.test('a failure in the first wave halts it, and the version before is served', (t) =>
    halts(t, openWorld),
  )
  await t.test('pause, resume and abort', (t) => pausing(t, openWorld))
  await t.test('what says nothing about the image is no failure', (t) => neutral(t, openWorld))
  await t.test('a wave that nobody boots in pauses the rollout', (t) => timesOut(t, openWorld))
  await t.test('a wave does not wait for nodes that were removed', async (t) => {
    const fleet = await openFleet(openWorld, 4)
    const { context } = fleet.world
    const ask = { version: '2', waves: ['3', '100%'], minBoots: 3 }
    const id = (await startRollout(context, pat, stable, ask)).rollout?.id ?? ''
    const members = new Map<string, Learnt>()
    for (const name of fleet.names) {
      const learnt = await fleet.boot(name, 'stage1')
      if (learnt.image === 'full@2') members.set(name, learnt)
    }
    for (const [name, learnt] of members) await fleet.finish(name, learnt)
    t.equal(members.size, 3, 'all of the wave are ready: the next one is on')
    t.match(await showRollout(context.storage.db, id), { state: 'running', wave: 2 })
    const last = fleet.names.find((name) => !members.has(name)) ?? ''
    await removeNode(context, root, last)
    await tendRollouts(context)
    t.match(await showRollout(context.storage.db, id), { state: 'completed' })
  })
  await t.test(
    'a machine that fails and begins again for ever is a failed node, not a booting one',
    async (t) => {
      const fleet = await openFleet(openWorld, 10)
      const { context, clock } = fleet.world
      const ask = { version: '2', waves: ['100%'], maxFailures: 2 }
      const id = (await startRollout(context, pat, stable, ask)).rollout?.id ?? ''
      for (const name of fleet.names.slice(0, 3)) {
        t.equal(await fleet.bootBad(name), 'full@2')
        clock.advance(60)
        if (name !== fleet.names[2])
          t.equal((await fleet.boot(name, 'stage1')).image, 'full@1', 'it gets the version before')
      }
      t.match(await showRollout(context.storage.db, id), { state: 'halted', failed: fleet.names.slice(0, 3) })
    },
  )
  await t.test('what a node has proved it has proved, however often it boots', async (t) => {
    const fleet = await openFleet(openWorld, 2)
    const { context, clock } = fleet.world
    const ask = { version: '2', waves: ['100%'], minBoots: 2 }
    const id = (await startRollout(context, pat, stable, ask)).rollout?.id ?? ''
    const [first = '', second = ''] = fleet.names
    await fleet.boot(first)
    clock.advance(60)
    await fleet.boot(first, 'stage1')
    await fleet.boot(second)
    t.match(await showRollout(context.storage.db, id), { state: 'completed' })
  })
  await t.test('a machine that asks stage 1 again and again, at once, fails', async (t) => {
    const fleet = await openFleet(openWorld, 1)
    const { context, clock } = fleet.world
    const id = (await startRollout(context, pat, stable, { version: '2', waves: ['1'] })).rollout?.id ?? ''
    for (let again = 0; again < 4; again++) {
      await fleet.boot(fleet.names[0] ?? '', 'stage1')
      clock.advance(20)
    }
    t.match(await showRollout(context.storage.db, id), { state: 'halted', failed: fleet.names })
  })
  await t.test('removing the first wave does not let the others have what nobody booted', async (t) => {
    const fleet = await openFleet(openWorld, 5)
    const { context } = fleet.world
    const id = (await startRollout(context, pat, stable, { version: '2', waves })).rollout?.id ?? ''
    const images = new Map<string, string>()
    for (const name of fleet.names) images.set(name, (await fleet.boot(name, 'stage1')).image)
    const [canary = ''] = [...images].find(([, image]) => image === 'full@2') ?? []
    await removeNode(context, root, canary)
    await tendRollouts(context)
    t.match(await showRollout(context.storage.db, id), { state: 'paused', cause: /were removed before any/ })
    fleet.world.clock.advance(60)
    for (const name of fleet.names.filter((other) => other !== canary))
      t.equal((await fleet.boot(name, 'stage1')).image, 'full@1')
  })
  await t.test("a channel's rules hold for a rollout that began before them", async (t) => {
    const fleet = await openFleet(openWorld, 1)
    const { context } = fleet.world
    const id = (await startRollout(context, pat, stable, { version: '2', waves: ['1'] })).rollout?.id ?? ''
    await protectChannel(context, root, stable, { twoPerson: true })
    await fleet.boot(fleet.names[0] ?? '')
    t.match(await showRollout(context.storage.db, id), { state: 'paused', cause: /wants two persons by now/ })
    t.equal((await showChannel(context.storage.db, stable)).version, '1')
  })
  await t.test('an approved rollout is the one that was looked at', async (t) => {
    const fleet = await openFleet(openWorld, 2)
    const { context } = fleet.world
    await protectChannel(context, root, stable, { twoPerson: true })
    const { proposal } = await startRollout(context, pat, stable, { version: '2', waves: ['100%'] })
    await storeNode(fleet.world, { name: 'late' })
    const paul = { ...pat, actor: 'operator:paul' }
    t.match(await errorOf(approveProposal(context, paul, store, proposal?.id ?? '')), {
      code: 'conflict',
      message: 'the rollout would be another by now: 1 -> 2',
    })
  })
  await t.test('labels, nodes that join later, and two persons', (t) => cohorts(t, openWorld))
  await t.test('a thousand nodes, a bad image: the first wave sees it, and nobody else', (t) =>
    simulate(t, openWorld),
  )
})

async function refusals(t: Test, openWorld: OpenWorld): Promise<void> {
  const { world } = await openFleet(openWorld, 3)
  const { context } = world
  const ask = { version: '2', waves }
  const cases: [string, () => Promise<unknown>, string, RegExp][] = [
    [
      'no channel',
      () => startRollout(context, pat, { ...stable, channel: 'x' }, ask),
      'not-found',
      /"full\/x"/,
    ],
    ['no version', () => startRollout(context, pat, stable, { ...ask, version: '9' }), 'not-found', /full@9/],
    [
      'the same version',
      () => startRollout(context, pat, stable, { ...ask, version: '1' }),
      'conflict',
      /at 1 already/,
    ],
    [
      'bad waves',
      () => startRollout(context, pat, stable, { ...ask, waves: ['2', '1'] }),
      'invalid',
      /smaller/,
    ],
    [
      'nobody',
      () => startRollout(context, pat, stable, { ...ask, label: 'a=b' }),
      'conflict',
      /no node with label a=b/,
    ],
    [
      'another scope',
      () => startRollout(context, { ...pat, scope: 'x' }, stable, ask),
      'forbidden',
      /images named "x"/,
    ],
    ['pause of none', () => pauseRollout(context, pat, 'x'), 'not-found', /no rollout "x"/],
  ]
  for (const [what, work, code, message] of cases) {
    const error = await errorOf(work())
    t.match([error.code, error.message], [code, message], what)
  }
  const dry = await startRollout(context, pat, stable, ask, { dryRun: true })
  t.match(dry, {
    before: '1',
    outside: 0,
    rollout: null,
    plan: { waves: [{ nodes: 1 }, { nodes: 2 }, { nodes: 3 }] },
  })
  const { rollout } = await startRollout(context, pat, stable, ask)
  const again = await errorOf(startRollout(context, pat, stable, ask))
  t.match([again.code, again.message], ['conflict', /is under rollout/])
  const moved = await errorOf(move(context, pat, stable, { how: 'set', version: '2', why: null }))
  t.match([moved.code, moved.hint], ['conflict', `end it first: pawl rollout abort ${rollout?.id}`])
  t.equal((await errorOf(abortRollout(context, { ...pat, scope: 'x' }, rollout?.id ?? ''))).code, 'forbidden')
}

async function goesOn(t: Test, openWorld: OpenWorld): Promise<void> {
  const fleet = await openFleet(openWorld, 4)
  const { context } = fleet.world
  const { db } = context.storage
  const { rollout } = await startRollout(context, pat, stable, { version: '2', waves, why: 'kernel 6.12' })
  const id = rollout?.id ?? ''
  const got = new Map<string, string>()
  for (const name of fleet.names) got.set(name, (await fleet.boot(name)).image)
  // One node is in wave 1, one more in wave 2, two in wave 3; which, the rollout's id decides.
  const first = [...got].filter(([, image]) => image === 'full@2').map(([name]) => name)
  t.ok(first.length >= 1 && first.length < 4, `${first}`)
  for (let round = 0; (await showRollout(db, id)).state === 'running' && round < 4; round++) {
    fleet.world.clock.advance(60)
    for (const name of fleet.names) await fleet.boot(name)
  }
  t.match(await showRollout(db, id), { state: 'completed', wave: 3, failed: [] })
  t.match((await showChannel(db, stable)).moves[0], {
    version: '2',
    before: '1',
    how: 'rollout',
    why: 'kernel 6.12',
    by: 'operator:pat',
  })
  for (const name of fleet.names) t.equal((await fleet.boot(name)).image, 'full@2')
  const shown = (await timelineOf(context, first[0] ?? '')).session?.images[1]?.via
  t.same(shown, { channel: 'full/stable' }, 'the timeline shows how the node came to it')
  const kinds = (await fleet.world.kinds()).filter((kind) => kind.startsWith('rollout'))
  t.same(kinds, ['rollout-started', 'rollout-advanced', 'rollout-advanced', 'rollout-completed'])
  const [opened] = await fleet.world.events({ kind: 'session-opened', node: first[0] ?? '' })
  t.match(opened?.detail.via, {
    stage3: { image: 'full@2', channel: 'full/stable', rollout: id, gets: 'new' },
  })
}

async function halts(t: Test, openWorld: OpenWorld): Promise<void> {
  const fleet = await openFleet(openWorld, 10)
  const { context } = fleet.world
  const { rollout } = await startRollout(context, pat, stable, { version: '2', waves })
  const id = rollout?.id ?? ''
  const victims: string[] = []
  for (const name of fleet.names) if ((await fleet.bootBad(name)) === 'full@2') victims.push(name)
  t.equal(victims.length, 1)
  const view = await showRollout(context.storage.db, id)
  t.match(view, { state: 'halted', wave: 1, failed: victims, cause: '1 of 1 nodes failed, of which 0 may' })
  const [halted] = await fleet.world.events({ kind: 'rollout-halted' })
  t.match(halted?.detail, { version: '2', servedAgain: '1', failed: victims, channel: 'full/stable' })
  for (const name of fleet.names) t.equal((await fleet.boot(name)).image, 'full@1')
  t.equal((await errorOf(resumeRollout(context, pat, id))).code, 'conflict', 'what is over does not go on')
  t.equal(
    (await move(context, pat, stable, { how: 'set', version: '2', why: null })).version,
    '2',
    'it is free again',
  )
}

async function pausing(t: Test, openWorld: OpenWorld): Promise<void> {
  const fleet = await openFleet(openWorld, 6)
  const { context } = fleet.world
  const { rollout } = await startRollout(context, pat, stable, {
    version: '2',
    waves: ['2', '100%'],
    minBoots: 2,
  })
  const id = rollout?.id ?? ''
  const images = async (): Promise<string[]> => {
    const all: string[] = []
    for (const name of fleet.names) all.push((await fleet.boot(name, 'stage1')).image)
    return all
  }
  const before = await images()
  t.equal(before.filter((image) => image === 'full@2').length, 2)
  fleet.world.clock.advance(10)
  t.match(await pauseRollout(context, pat, id), { state: 'paused', cause: 'by pat' })
  t.match(await pauseRollout(context, pat, id), { state: 'paused' }, 'again: no change')
  t.same(await images(), before, 'who has it keeps it')
  t.match(await resumeRollout(context, pat, id), { state: 'running', cause: null })
  t.match(await resumeRollout(context, pat, id), { state: 'running' })
  t.match(await abortRollout(context, pat, id), { state: 'aborted' })
  t.same(new Set(await images()), new Set(['full@1']))
  t.equal((await showChannel(context.storage.db, stable)).version, '1')
}

async function neutral(t: Test, openWorld: OpenWorld): Promise<void> {
  const fleet = await openFleet(openWorld, 1)
  const { context, clock } = fleet.world
  const { rollout } = await startRollout(context, pat, stable, { version: '2', waves: ['1'] })
  const id = rollout?.id ?? ''
  const [only = ''] = fleet.names
  const counts = async (): Promise<unknown> => (await showRollout(context.storage.db, id)).waves[0]?.counts
  const none = { waiting: 0, booting: 0, succeeded: 0, failed: 0 }
  t.same(await counts(), { ...none, waiting: 1 })
  await fleet.boot(only, 'stage1')
  clock.advance(5)
  await fleet.boot(only, 'stage1')
  t.same(await counts(), { ...none, booting: 1 }, 'stage 1 was asked again at once')
  await disableNode(context, pat, only)
  t.same(await counts(), { ...none, waiting: 1 }, 'an operator disabled it')
  await enableNode(context, pat, only)
  await fleet.boot(only, 'stage2')
  clock.advance(600)
  t.equal((await fleet.boot(only, 'stage1')).image, 'full@1', 'a power cycle in the middle is a failed boot')
  t.match(await showRollout(context.storage.db, id), { state: 'halted', failed: [only] })
}

async function timesOut(t: Test, openWorld: OpenWorld): Promise<void> {
  const fleet = await openFleet(openWorld, 2)
  const { context, clock } = fleet.world
  const ask = { version: '2', waves: ['1', '100%'], waveTimeoutSeconds: 3600 }
  const id = (await startRollout(context, pat, stable, ask)).rollout?.id ?? ''
  clock.advance(3599)
  await tendRollouts(context)
  t.equal((await showRollout(context.storage.db, id)).state, 'running')
  clock.advance(1)
  await tendRollouts(context)
  t.match(await showRollout(context.storage.db, id), {
    state: 'paused',
    cause: 'wave 1 did not pass within 3600 s',
  })
  await resumeRollout(context, pat, id)
  await tendRollouts(context)
  t.equal((await showRollout(context.storage.db, id)).state, 'running', 'its time begins anew')
}

async function cohorts(t: Test, openWorld: OpenWorld): Promise<void> {
  const fleet = await new Fleet(await openWorld(), 6).store((index) => (index < 2 ? { site: 'lga' } : {}))
  const { context } = fleet.world
  const ask = { version: '2', waves: ['1', '100%'], label: 'site=lga' }
  t.match(await startRollout(context, pat, stable, ask, { dryRun: true }), { outside: 4 })
  await protectChannel(context, root, stable, { twoPerson: true })
  const { proposal, rollout } = await startRollout(context, pat, stable, ask)
  t.match([rollout, proposal?.kind], [null, 'rollout'])
  await approveProposal(context, { ...pat, actor: 'operator:paul' }, store, proposal?.id ?? '')
  const secret = await storeNode(fleet.world, { name: 'late', labels: '{"site":"lga"}' })
  await boot(fleet.world, machineOf(secret, { host: 'late' }))
  t.equal(await fleet.imageOf('late'), 'full@1', 'a node that joined later is in no wave')
  for (const name of fleet.names.slice(2)) t.equal((await fleet.boot(name)).image, 'full@1')
  for (let round = 0; round < 3; round++) {
    fleet.world.clock.advance(60)
    for (const name of fleet.names.slice(0, 2)) await fleet.boot(name)
  }
  t.match((await showChannel(context.storage.db, stable)).moves[0], {
    version: '2',
    by: 'operator:pat',
    approvedBy: 'operator:paul',
  })
  for (const name of fleet.names) t.equal((await fleet.boot(name)).image, 'full@2')
}

async function simulate(t: Test, openWorld: OpenWorld): Promise<void> {
  const size = t.fullname.includes('PostgreSQL') ? 200 : 1000 // the same statements there, five times as long
  const fleet = await openFleet(openWorld, size)
  const { context } = fleet.world
  const ask = { version: '2', waves: ['1%', '10%', '50%', '100%'] }
  const bad = (await startRollout(context, pat, stable, ask)).rollout?.id ?? ''
  // All at once, the worst case: every stage 1 comes before the first failure is known.
  const seen: [string, Learnt][] = []
  for (const name of fleet.names) {
    const learnt = await fleet.boot(name, 'stage1')
    if (learnt.image === 'full@2') seen.push([name, learnt])
  }
  t.equal(seen.length, size / 100, 'the first wave, whole, and nobody else')
  for (const [name, learnt] of seen) {
    Object.assign(learnt, await askHandover(fleet.world, fleet.machineOf(name), learnt.handoverToken))
    await fleet.report(name, learnt, 'error: no NIC')
  }
  const view = await showRollout(context.storage.db, bad)
  t.match([view.state, view.wave, view.cause], ['halted', 1, /^1 of \d+ nodes failed, of which 0 may$/])
  fleet.world.clock.advance(3600)
  for (const name of fleet.names) {
    const { image } = await fleet.boot(name, 'stage1')
    if (image !== 'full@1') t.fail(`${name} got ${image} after the rollout was halted`)
  }
  const good = (await startRollout(context, pat, stable, ask)).rollout?.id ?? ''
  const boots = await bootUntilDone(fleet, good)
  t.match(await showRollout(context.storage.db, good), { state: 'completed', wave: 4, failed: [] })
  t.comment(
    `of ${size} nodes ${seen.length} saw the bad version; a good one was out after ${boots} boots of it`,
  )
}

/** Boots the nodes of each wave, in its turn, until the rollout is over; says how many boots that took. */
async function bootUntilDone(fleet: Fleet, id: string): Promise<number> {
  const { db } = fleet.world.context.storage
  let boots = 0
  for (;;) {
    const { state, wave } = await showRollout(db, id)
    if (state !== 'running') return boots
    fleet.world.clock.advance(3600)
    const turn = db.selectFrom('rollout_nodes').innerJoin('nodes', 'nodes.id', 'rollout_nodes.node')
    const next = turn.select('nodes.name').where('rollout', '=', id).where('wave', '=', wave)
    for (const { name } of await next.where('rollout_nodes.state', '=', 'waiting').limit(25).execute()) {
      const learnt = await fleet.boot(name, 'stage1')
      if (learnt.image !== 'full@2') throw new Error(`${name} is in wave ${wave}, and got ${learnt.image}`)
      await fleet.finish(name, learnt)
      boots += 1
    }
  }
}
