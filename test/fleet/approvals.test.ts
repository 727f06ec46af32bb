import t from 'tap'
import { approveProposal, rejectProposal } from '../../src/fleet/approvals.ts'
import type { By } from '../../src/fleet/change.ts'
import { listImages, publishImage } from '../../src/fleet/images.ts'
import { showProposals } from '../../src/fleet/proposals.ts'
import { registerPublisher, showPublishers } from '../../src/fleet/publishers.ts'
import { storeProfile, wholeList } from '../helpers/fleet.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { newSigner } from '../helpers/signing.ts'
import { smallKernel, smallManifest } from '../helpers/small-image.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'
import { type MemoryStore, memoryStore } from '../images/memory-store.ts'

const pat: By = { actor: 'operator:pat', source: null, role: 'publisher' }
const paul: By = { actor: 'operator:paul', source: null, role: 'publisher' }

/** A world whose profile boots images named "small" first, and the bytes of one. */
async function open(openWorld: OpenWorld): Promise<{ world: World; memory: MemoryStore; manifest: object }> {
  const world = await openWorld()
  await storeProfile(world, { name: 'demo', boot: { stage2: 'small/stable', stage3: 'full@1' } })
  const memory = memoryStore()
  const [kernel, initramfs] = [smallKernel().bytes, Buffer.from('initramfs')]
  const manifest = smallManifest(
    { bytes: kernel, digest: memory.add(kernel) },
    { bytes: initramfs, digest: memory.add(initramfs) },
  )
  return { world, memory, manifest }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a stage-2 image is published by an admin, or by two', async (t) => {
    const { world, memory, manifest } = await open(openWorld)
    const { context } = world
    const { store } = memory
    const publish = (by: By, version: string) =>
      publishImage(context, by, store, { manifest: { ...manifest, version } })
    t.match(await errorOf(publish({ ...pat, scope: 'worker*' }, '1')), { code: 'forbidden' })
    const proposed = await publish(pat, '1')
    t.match(proposed, { created: false, proposal: { kind: 'image', subject: 'small@1' } })
    t.same((await listImages(context.storage.db, wholeList)).items, [], 'nothing is visible')
    const id = proposed.proposal?.id ?? ''
    t.equal((await publish(pat, '1')).proposal?.id, id, 'again: the same proposal')
    t.match(await errorOf(approveProposal(context, pat, store, id)), {
      code: 'forbidden',
      message: /your own/,
    })
    t.match(await errorOf(approveProposal(context, ann, store, id)), {
      code: 'forbidden',
      message: /role publisher/,
    })
    t.match(await errorOf(approveProposal(context, { ...paul, scope: 'x' }, store, id)), {
      code: 'forbidden',
    })
    t.match(
      await errorOf(approveProposal(context, paul, memoryStore().store, id)),
      {
        code: 'conflict',
        message: /is not stored/,
      },
      'its bytes are read back anew',
    )
    t.match(await approveProposal(context, paul, store, id), { state: 'approved' })
    t.match((await listImages(context.storage.db, wholeList)).items, [
      { ref: 'small@1', createdBy: 'operator:pat' },
    ])
    t.match(await publish(root, '2'), { created: true, proposal: null }, 'an admin alone')
    t.match(
      await publishImage(context, pat, store, { manifest: { ...manifest, name: 'other' } }),
      {
        created: true,
        proposal: null,
      },
      'images of stage 3 need no second person',
    )
  })

  await t.test('a certificate that may sign is registered by an admin, or by two', async (t) => {
    const { world, memory } = await open(openWorld)
    const { context } = world
    const { store } = memory
    const { certificates } = await newSigner('farm')
    const { certificates: other } = await newSigner('other')
    t.match(await errorOf(registerPublisher(context, pat, { name: 'farm', certificates: 'x' })), {
      code: /./,
    })
    const { publisher, proposal } = await registerPublisher(context, pat, { name: 'farm', certificates })
    t.match([publisher, proposal?.subject], [null, 'farm'])
    t.same(
      (await showPublishers(context.storage.db, wholeList)).items.map(({ name }) => name),
      [],
    )
    const id = proposal?.id ?? ''
    t.match(await errorOf(approveProposal(context, pat, store, id)), { code: 'forbidden' })
    t.match(await errorOf(approveProposal(context, { ...paul, scope: 'worker*' }, store, id)), {
      code: 'forbidden',
      message: /cannot let anyone sign/,
    })
    await approveProposal(context, paul, store, id)
    t.same(
      (await showPublishers(context.storage.db, wholeList)).items.map(({ name }) => name),
      ['farm'],
    )
    const second = (await registerPublisher(context, pat, { name: 'other', certificates: other })).proposal
    await rejectProposal(context, paul, second?.id ?? '')
    t.match((await registerPublisher(context, root, { name: 'other', certificates: other })).publisher, {
      name: 'other',
    })
    t.same((await showProposals(context, false, wholeList)).items, [])
  })
})
