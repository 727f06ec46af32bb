import t, { type Test } from 'tap'
import type { ImageName } from '../../src/domain/image.ts'
import { approveProposal, rejectProposal } from '../../src/fleet/approvals.ts'
import type { By } from '../../src/fleet/change.ts'
import { listChannels, type Move, move, protectChannel, showChannel } from '../../src/fleet/channels.ts'
import { recordImageTest } from '../../src/fleet/image-tests.ts'
import { showProposals } from '../../src/fleet/proposals.ts'
import { publishImage, storeProfile, wholeList } from '../helpers/fleet.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'
import { memoryStore } from '../images/memory-store.ts'

const { store } = memoryStore()
const stable = { name: 'full' as ImageName, channel: 'stable' }
const minimal = { name: 'small' as ImageName, channel: 'stable' }
const pat: By = { actor: 'operator:pat', source: '198.51.100.9', role: 'publisher' }
const paul: By = { actor: 'operator:paul', source: '198.51.100.10', role: 'publisher' }

async function openChannels(openWorld: OpenWorld): Promise<World> {
  const world = await openWorld()
  await publishImage(world, 'small@1', 'a', false)
  await publishImage(world, 'small@2', 'd', false)
  for (const [version, letter] of [
    ['1', 'b'],
    ['2', 'c'],
    ['3', 'e'],
  ] as const)
    await publishImage(world, `full@${version}`, letter)
  await storeProfile(world, {
    name: 'demo',
    kernelArguments: 'quiet',
    boot: { stage2: 'small/stable', stage3: 'full/stable' },
  })
  return world
}

const to = (version: string, why: string | null = null): Move => ({ how: 'set', version, why })
const back: Move = { how: 'rollback', why: null }

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses a move to what is not there, or may not be served', async (t) => {
    const world = await openChannels(openWorld)
    const { context } = world
    const refuse = async (by: By, ref: typeof stable, asked: Move, code: string, message: RegExp) => {
      const error = await errorOf(move(context, by, ref, asked))
      t.match([error.code, error.message], [code, message])
    }
    await refuse(pat, stable, to('9'), 'not-found', /image "full@9" is not published/)
    await refuse(pat, stable, back, 'not-found', /channel "full\/stable" does not exist/)
    await refuse({ ...pat, scope: 'other*' }, stable, to('1'), 'forbidden', /for images named "other\*"/)
    await move(context, pat, stable, to('1'))
    await refuse(pat, stable, back, 'conflict', /has no version before this one/)
    await storeProfile(world, {
      name: 'long',
      kernelArguments: 'x'.repeat(1024),
      boot: { stage2: 'small/stable', stage3: 'full/stable' },
    })
    t.same((await showChannel(context.storage.db, stable)).moves.length, 1, 'nothing of it is in the history')
    t.same(
      (await world.events({ kind: 'channel-moved' })).map((event) => [event.actor, event.detail]),
      [['operator:pat', { channel: 'full/stable', version: '1', before: null, how: 'set', why: null }]],
    )
  })

  await t.test('refuses a version whose command line a profile that follows it cannot carry', async (t) => {
    const world = await openChannels(openWorld)
    await storeProfile(world, {
      name: 'long',
      kernelArguments: Array.from({ length: 200 }, (_, i) => `a${i}`).join(' '),
      boot: { stage2: 'small/stable', stage3: 'full/stable' },
    })
    const { storage } = world.context
    const row = await storage.db
      .selectFrom('images')
      .selectAll()
      .where('version', '=', '3')
      .executeTakeFirstOrThrow()
    const manifest = JSON.stringify({ ...JSON.parse(row.manifest), kernelArguments: 'b'.repeat(1200) })
    await storage.db.updateTable('images').set({ manifest }).where('version', '=', '3').execute()
    const error = await errorOf(move(world.context, pat, stable, to('3')))
    t.match(error, { code: 'conflict', message: /profile "long" cannot boot full@3: / })
  })

  await t.test('moves forward and back, and keeps who, when and why', (t) => movesAndBack(t, openWorld))
  await t.test('two persons: one proposes, another approves', (t) => twoPersons(t, openWorld))
  await t.test('stage-2 images move by an admin, or by two', (t) => stage2(t, openWorld))

  await t.test('a channel may want a passed test: the last one counts', async (t) => {
    const { context, clock } = await openChannels(openWorld)
    await protectChannel(context, root, stable, { requireTest: true })
    const refused = (message: RegExp) =>
      errorOf(move(context, root, stable, to('1'))).then((error) =>
        t.match([error.code, error.message, error.hint], ['conflict', message, /pawl image test full@1/]),
      )
    await refused(/takes tested versions only, and full@1 has no test/)
    const test = (passed: boolean) =>
      recordImageTest(context, pat, { name: 'full', version: '1' }, { passed, detail: { seconds: 40 } })
    await test(false)
    await refused(/and full@1 failed its last one/)
    clock.advance(1)
    await test(true)
    t.equal((await move(context, root, stable, to('1'))).version, '1')
    await protectChannel(context, root, stable, { requireTest: false })
    await move(context, root, stable, to('2'))
    await protectChannel(context, root, stable, { requireTest: true })
    clock.advance(1)
    await test(false)
    t.equal((await move(context, root, stable, back)).version, '1', 'the way back is always open')
  })

  await t.test('one token can neither fill the list of proposals nor turn others’ down', async (t) => {
    const { context } = await openChannels(openWorld)
    await protectChannel(context, root, stable, { twoPerson: true })
    const greedy: By = { ...pat, actor: 'operator:greedy', scope: 'small*' }
    for (let i = 0; i < 20; i++) {
      const ref = { ...minimal, channel: `c${i}` }
      t.ok((await move(context, greedy, ref, to('1'))).proposal)
    }
    const more = await errorOf(move(context, greedy, minimal, to('1')))
    t.match([more.code, more.message], ['conflict', '20 proposals of yours wait already'])
    const other = await move(context, paul, stable, to('1'))
    t.ok(other.proposal, 'others go on')
    t.match(await errorOf(rejectProposal(context, greedy, other.proposal?.id ?? '')), { code: 'forbidden' })
    t.match(
      await rejectProposal(context, paul, other.proposal?.id ?? ''),
      { state: 'rejected' },
      'one may take back',
    )
  })
})

async function movesAndBack(t: Test, openWorld: OpenWorld): Promise<void> {
  const world = await openChannels(openWorld)
  const { context, clock } = world
  const { db } = context.storage
  for (const [version, why] of [
    ['1', 'first'],
    ['2', null],
    ['3', 'kernel 6.12'],
  ] as const) {
    clock.advance(60)
    const moved = await move(context, pat, stable, to(version, why))
    t.same([moved.version, moved.changed, moved.proposal], [version, true, null])
  }
  const again = await move(context, pat, stable, to('3'))
  t.same([again.changed, again.version], [false, '3'], 'where it is already: no move')
  clock.advance(60)
  t.equal((await move(context, ann, stable, { ...back, why: 'no NIC' })).version, '2')
  t.equal(
    (await move(context, ann, stable, back)).version,
    '1',
    'twice: one more back, not there and back again',
  )
  t.equal((await errorOf(move(context, ann, stable, back))).code, 'conflict')
  const { moves, digest } = await showChannel(db, stable)
  t.match(digest, /^[0-9a-f]{64}$/)
  t.same(
    moves.map(({ version, before, how, why, by }) => [version, before, how, why, by]),
    [
      ['1', '2', 'rollback', null, 'operator:ann'],
      ['2', '3', 'rollback', 'no NIC', 'operator:ann'],
      ['3', '2', 'set', 'kernel 6.12', 'operator:pat'],
      ['2', '1', 'set', null, 'operator:pat'],
      ['1', null, 'set', 'first', 'operator:pat'],
    ],
  )
  t.equal(moves[0]?.at, '2026-11-21T06:04:00.000Z')
  t.same(
    (await listChannels(db, wholeList)).items.map((view) => [view.channel, view.version]),
    [['full/stable', '1']],
  )
}

async function twoPersons(t: Test, openWorld: OpenWorld): Promise<void> {
  const world = await openChannels(openWorld)
  const { context, clock } = world
  const { db } = context.storage
  await move(context, pat, stable, to('1'))
  await protectChannel(context, root, stable, { twoPerson: true })
  const proposed = await move(context, root, stable, to('2', 'better'))
  t.match(proposed, {
    version: '1',
    changed: false,
    proposal: { kind: 'channel', subject: 'full/stable', why: 'better' },
  })
  const id = proposed.proposal?.id ?? ''
  t.equal(
    (await move(context, root, stable, to('2', 'better'))).proposal?.id,
    id,
    'asked again: the same proposal',
  )
  t.match(await errorOf(approveProposal(context, root, store, id)), {
    code: 'forbidden',
    message: /is your own/,
  })
  t.match(await errorOf(approveProposal(context, { ...paul, scope: 'x' }, store, id)), { code: 'forbidden' })
  t.equal((await errorOf(approveProposal(context, paul, store, 'nobody'))).code, 'not-found')
  t.equal((await showChannel(db, stable)).version, '1')
  t.match(await approveProposal(context, paul, store, id), { state: 'approved', decidedBy: 'operator:paul' })
  t.match((await showChannel(db, stable)).moves[0], {
    version: '2',
    by: 'operator:root',
    approvedBy: 'operator:paul',
    why: 'better',
  })
  t.match(await errorOf(approveProposal(context, paul, store, id)), {
    code: 'conflict',
    message: /is approved already/,
  })

  const stale = (await move(context, pat, stable, to('3'))).proposal?.id ?? ''
  const rival = (await move(context, paul, stable, to('1'))).proposal?.id ?? ''
  await approveProposal(context, pat, store, rival)
  t.match(await errorOf(approveProposal(context, paul, store, stale)), {
    code: 'conflict',
    message: 'channel full/stable is at 1 by now, it was at 2 when this was proposed',
  })
  t.match(await rejectProposal(context, pat, stale), { state: 'rejected', decidedBy: 'operator:pat' })

  const late = (await move(context, pat, stable, to('3'))).proposal?.id ?? ''
  clock.advance(7 * 86_400)
  t.match(await errorOf(approveProposal(context, paul, store, late)), {
    code: 'conflict',
    message: /expired at/,
  })
  t.same((await showProposals(context, false, wholeList)).items, [])
  t.same((await showProposals(context, true, wholeList)).items.length, 4)
  t.same(await world.kinds({ kind: 'change-approved' }), ['change-approved', 'change-approved'])
}

async function stage2(t: Test, openWorld: OpenWorld): Promise<void> {
  const world = await openChannels(openWorld)
  const { context } = world
  const proposed = await move(context, pat, minimal, to('1'))
  t.match(proposed, { version: null, changed: false, proposal: { subject: 'small/stable' } })
  await approveProposal(context, paul, store, proposed.proposal?.id ?? '')
  t.equal((await move(context, root, minimal, to('2'))).changed, true, 'an admin alone')
  t.ok((await move(context, ann, minimal, back)).proposal, 'back too')
  t.equal(
    (await move(context, pat, stable, to('1'))).changed,
    true,
    'the images of stage 3 need no second person',
  )
}
