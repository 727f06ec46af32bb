import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import type { Digest } from '../../src/domain/digest.ts'
import type { ImageName } from '../../src/domain/image.ts'
import { move } from '../../src/fleet/channels.ts'
import { listImages, publishImage } from '../../src/fleet/images.ts'
import { finishRemovals, isRemoved, noteStored, prune, refuseWhileRemoved } from '../../src/fleet/prune.ts'
import { startRollout } from '../../src/fleet/rollouts.ts'
import { type ArtifactStore, openArtifactStore } from '../../src/images/artifacts.ts'
import { storeNode, storeProfile, wholeList } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { errorOf, root } from '../helpers/operators.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

const day = 86_400
const all = { keep: 0, olderThanSeconds: 0 }

/** A world with a store; its clock is two days ahead of the files' times, so that no byte is too young to go. */
async function open(t: Test, openWorld: OpenWorld): Promise<{ world: World; store: ArtifactStore }> {
  const world = await openWorld()
  const folder = mkdtempSync(join(tmpdir(), 'pawl-prune-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  world.clock.advance(Math.ceil((Date.now() - world.clock.now().getTime()) / 1000) + 2 * day)
  return { world, store: await openArtifactStore(folder) }
}

/** Publishes small bytes as a version; its initramfs is its own, its kernel everybody's. */
async function publish(world: World, store: ArtifactStore, ref: string, initramfs = ref): Promise<Digest> {
  const [name, version] = ref.split('@')
  const files = [smallKernel(), smallFile(`initramfs of ${initramfs}`)] as const
  for (const { digest, bytes } of files)
    await store.put(digest, Readable.from([bytes]), { size: bytes.length })
  const manifest = smallManifest(...files, { name, version })
  await publishImage(world.context, root, store, { manifest })
  world.clock.advance(60)
  return files[1].digest
}

const names = async (world: World): Promise<string[]> =>
  (await listImages(world.context.storage.db, wholeList)).items.map(({ ref }) => ref).sort()

async function stored(store: ArtifactStore): Promise<Set<string>> {
  const digests = new Set<string>()
  for await (const { digest } of store.list()) digests.add(digest)
  return digests
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('shows what would go, and does nothing until it is told to', async (t) => {
    const { world, store } = await open(t, openWorld)
    const first = await publish(world, store, 'a@1')
    await publish(world, store, 'a@2')
    await publish(world, store, 'b@1', 'a@2') // the same bytes under another name
    const before = await stored(store)
    const run = (dryRun: boolean) =>
      prune(world.context, root, store, { keep: 1, olderThanSeconds: 0 }, { dryRun })
    const plan = await run(true)
    t.match(plan, {
      versions: [{ ref: 'a@1' }],
      artifacts: [{ digest: first, size: 16 }],
      bytes: 16,
      applied: false,
    })
    t.same([await names(world), await stored(store)], [['a@1', 'a@2', 'b@1'], before])
    t.match(await run(false), { ...plan, applied: true })
    t.same(await names(world), ['a@2', 'b@1'])
    t.same(await stored(store), new Set([...before].filter((digest) => digest !== first)))
    t.match(await run(false), { versions: [], artifacts: [], bytes: 0 })
    const events = await world.events({ kind: 'images-pruned' })
    t.same(
      events.map(({ detail }) => detail),
      [{ count: 1, versions: ['a@1'] }],
    )
  })

  await t.test('keeps the newest, and the young', async (t) => {
    const { world, store } = await open(t, openWorld)
    for (const version of ['1', '2', '3', '4']) await publish(world, store, `a@${version}`)
    const gone = async (rule: typeof all) =>
      (await prune(world.context, root, store, rule, { dryRun: true })).versions.map(({ ref }) => ref).sort()
    t.same(await gone(all), ['a@1', 'a@2', 'a@3', 'a@4'])
    t.same(await gone({ keep: 2, olderThanSeconds: 0 }), ['a@1', 'a@2'])
    t.same(await gone({ keep: 9, olderThanSeconds: 0 }), [])
    t.same(await gone({ keep: 0, olderThanSeconds: 150 }), ['a@1', 'a@2'])
  })

  await t.test('never removes what is used', (t) => inUse(t, openWorld))
  await t.test('safe while publishes run: bytes that went are asked for again', (t) => racing(t, openWorld))

  await t.test('a name that was pruned is never given to other bytes', async (t) => {
    const { world, store } = await open(t, openWorld)
    await publish(world, store, 'a@1')
    await prune(world.context, root, store, all, { dryRun: false })
    t.same(await names(world), [])
    const other = await errorOf(publish(world, store, 'a@1', 'other bytes'))
    t.match([other.code, other.message], ['exists', /image a@1 is published with digest/])
    for (const file of [smallKernel(), smallFile('initramfs of a@1')]) {
      await store.put(file.digest, Readable.from([file.bytes]), { size: file.bytes.length })
      await noteStored(world.context, file.digest)
    }
    await publish(world, store, 'a@1')
    t.same(await names(world), ['a@1'], 'the same bytes are the same version')
  })

  await t.test('what one run could not remove the server removes, and HEAD says it is gone', async (t) => {
    const { world, store } = await open(t, openWorld)
    const digest = await publish(world, store, 'a@1')
    const away: ArtifactStore = { ...store, remove: () => Promise.reject(new Error('away')) }
    await t.rejects(prune(world.context, root, away, all, { dryRun: false }), /away/)
    t.equal(await isRemoved(world.context, digest), true)
    await finishRemovals(world.context, store)
    t.same([await store.has(digest), await isRemoved(world.context, digest)], [undefined, true])
    await refuseWhileRemoved(world.context, digest)
    await noteStored(world.context, digest)
    t.equal(await isRemoved(world.context, digest), false, 'once it is sent again')
  })

  await t.test(
    'a version that comes into use while it is pruned stays, or is refused to its user',
    async (t) => {
      const { world, store } = await open(t, openWorld)
      const { context } = world
      const stable = { name: 'full' as ImageName, channel: 'stable' }
      for (let round = 0; round < 10; round++) {
        await publish(world, store, `full@${round}`)
        const [moved] = await Promise.allSettled([
          move(context, root, stable, { how: 'set', version: String(round), why: null }),
          prune(context, root, store, all, { dryRun: false }),
        ])
        const there = (await names(world)).includes(`full@${round}`)
        t.equal(there, moved.status === 'fulfilled', `round ${round}: ${moved.status}`)
      }
    },
  )

  await t.test('bytes that no version names go after a day, those of a publish under way stay', async (t) => {
    const { world, store } = await open(t, openWorld)
    const { digest, bytes } = smallFile('sent, never published')
    await store.put(digest, Readable.from([bytes]), { size: bytes.length })
    world.clock.advance(-2 * day - 60)
    t.same((await prune(world.context, root, store, all, { dryRun: false })).artifacts, [])
    t.equal(await store.has(digest), bytes.length)
    world.clock.advance(day + 120)
    t.match((await prune(world.context, root, store, all, { dryRun: false })).artifacts, [{ digest }])
    t.equal(await store.has(digest), undefined)
  })
})

async function inUse(t: Test, openWorld: OpenWorld): Promise<void> {
  const { world, store } = await open(t, openWorld)
  const { context } = world
  for (const ref of ['small@1', 'full@1', 'full@2', 'full@3', 'full@4', 'full@5', 'full@6', 'idle@1'])
    await publish(world, store, ref)
  const stable = { name: 'full' as ImageName, channel: 'stable' }
  const boots = (stage3: string) => ({
    name: 'demo',
    acceptUnsigned: true,
    boot: { stage2: 'small@1', stage3 },
  })
  await storeProfile(world, boots('full@1'))
  const secret = await storeNode(world, { name: 'node1' })
  await boot(world, machineOf(secret), 'stage2') // an open session has full@1
  await storeProfile(world, boots('full/stable'))
  await storeProfile(world, { ...boots('full@2'), name: 'other' })
  for (const version of ['3', '4']) await move(context, root, stable, { how: 'set', version, why: null })
  await startRollout(context, root, stable, { version: '5', waves: ['100%'] })
  const done = await prune(context, root, store, all, { dryRun: false })
  t.same(done.versions.map(({ ref }) => ref).sort(), ['full@6', 'idle@1'])
  t.same(await names(world), ['full@1', 'full@2', 'full@3', 'full@4', 'full@5', 'small@1'])
  const used = new Map(done.used.map(({ ref, by }) => [ref, by.replace(/ [\w-]{12}$/, '')]))
  t.equal(used.get('full@1'), 'session')
  t.equal(used.get('full@2'), 'profile other')
  t.equal(used.get('full@3'), 'channel full/stable, to roll back to')
  t.match(used.get('full@4'), /channel full\/stable|rollout/)
  t.equal(used.get('full@5'), 'rollout')
  t.match(used.get('small@1'), /profile demo|profile other|session/)
  t.equal((await stored(store)).size, 1 + 6, 'one kernel, six initramfs')
}

async function racing(t: Test, openWorld: OpenWorld): Promise<void> {
  const { world, store } = await open(t, openWorld)
  const { context } = world
  const kernel = smallKernel()
  const initramfs = smallFile('initramfs of late@1')
  await publish(world, store, 'late@1')
  const manifest = smallManifest(kernel, initramfs, { name: 'late', version: '2' })
  // The publish has read the bytes back and found them good; then they go.
  const overtaken: ArtifactStore = {
    ...store,
    async open(wanted) {
      const kernelFile = await store.open(wanted) // the last that is looked at
      await prune(context, root, store, all, { dryRun: false })
      return kernelFile
    },
  }
  t.match(await errorOf(publishImage(context, root, overtaken, { manifest })), {
    code: 'conflict',
    message: /was pruned a moment ago/,
    hint: 'publish again: it is sent anew',
  })
  t.same(await names(world), [], 'nothing is visible that has no bytes')
  for (const { digest: again, bytes } of [kernel, initramfs]) {
    await refuseWhileRemoved(context, again)
    await store.put(again, Readable.from([bytes]), { size: bytes.length })
    await noteStored(context, again)
  }
  t.equal((await publishImage(context, root, store, { manifest })).created, true)

  // Killed between the note and the bytes: nothing is published meanwhile, and the next run goes on.
  await context.storage.db.deleteFrom('images').execute()
  const killed: ArtifactStore = { ...store, remove: () => Promise.reject(new Error('killed')) }
  await t.rejects(prune(context, root, killed, all, { dryRun: false }), /killed/)
  const held = await errorOf(
    Promise.all([kernel, initramfs].map((file) => refuseWhileRemoved(context, file.digest))),
  )
  t.match([held.code, held.message], ['conflict', /is being removed at this moment/])
  t.equal((await errorOf(publishImage(context, root, store, { manifest }))).code, 'conflict')
  await prune(context, root, store, all, { dryRun: false })
  t.same(await stored(store), new Set())
}
