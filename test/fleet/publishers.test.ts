import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { parseManifest } from '../../src/domain/image.ts'
import { writeChain } from '../../src/domain/publisher.ts'
import type { By } from '../../src/fleet/change.ts'
import { publishImage, rereadImage, showEvidence, showImage } from '../../src/fleet/images.ts'
import {
  issuePublisher,
  registerPublisher,
  revokePublisher,
  showPublisher,
  showPublishers,
} from '../../src/fleet/publishers.ts'
import { signImage as addSignature } from '../../src/fleet/signatures.ts'
import { type ArtifactStore, openArtifactStore } from '../../src/images/artifacts.ts'
import { signImage } from '../../src/pki/code-signing.ts'
import { generateKey, makeSigningRequest } from '../../src/pki/x509.ts'
import { wholeList } from '../helpers/fleet.ts'
import { newSigner, rsaKey, signingKeyOf, testIssuer } from '../helpers/signing.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const ann: By = { actor: 'operator:ann', source: '192.0.2.1', role: 'admin' }
const [kernel, initramfs] = [smallKernel(), smallFile('initramfs')]
const document = smallManifest(kernel, initramfs)
const manifest = parseManifest(document)
const ref = { name: manifest.name, version: manifest.version }
// RSA keys take long to make: two serve all.
const [farm, ci] = [await newSigner('farm'), await newSigner('ci')]
const [byFarm, byCi] = [signImage(signingKeyOf(farm), manifest), signImage(signingKeyOf(ci), manifest)]

async function storeOf(t: Test): Promise<ArtifactStore> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-publishers-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const store = await openArtifactStore(folder)
  for (const { digest, bytes } of [kernel, initramfs])
    await store.put(digest, Readable.from([bytes]), { maxBytes: 1_000_000 })
  return store
}

const register = ({ context }: World, name: string, { certificates }: typeof farm) =>
  registerPublisher(context, ann, { name, certificates })

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a publisher is refused whose name or certificate is taken, revoked ones included',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await register(world, 'farm', farm)
      await t.rejects(register(world, 'farm', ci), { code: 'exists', message: 'publisher "farm" exists' })
      await t.rejects(register(world, 'other', farm), { message: 'this certificate is publisher "farm"\'s' })
      await t.rejects(register(world, 'No Name', ci), { code: 'invalid' })
      await t.rejects(revokePublisher(context, ann, 'nobody'), { code: 'not-found' })
      await t.rejects(showPublisher(context.storage.db, 'nobody'), { code: 'not-found' })
      await revokePublisher(context, ann, 'farm')
      await t.rejects(register(world, 'farm', ci), { message: 'publisher "farm" exists, revoked' })
      await t.rejects(register(world, 'again', farm), { code: 'exists' })
      world.clock.advance(366 * 86_400)
      await t.rejects(register(world, 'ci', ci), { code: 'signature-invalid', message: /is good from/ })
      t.same(await world.kinds(), ['publisher-registered', 'publisher-revoked'])
    },
  )

  await t.test('a certificate is made for whoever shows to have the key, and is registered', async (t) => {
    const world = await openWorld()
    const { context } = world
    const issue = (name: string, request: string) =>
      issuePublisher(context, ann, { name, request }, testIssuer)
    await t.rejects(issue('ci', 'no request'), { code: 'signature-invalid' })
    const weak = await makeSigningRequest(rsaKey(1024), 'x')
    await t.rejects(issue('ci', weak), { code: 'signature-invalid', message: /1024 bits/ })
    const key = await generateKey()
    const made = await issue('ci', await makeSigningRequest(key, 'whatever it asks for'))
    t.match(made, {
      name: 'ci',
      subject: 'CN=Pawl publisher ci',
      expiresAt: '2027-11-21T06:00:00.000Z',
      createdBy: 'operator:ann',
      revokedAt: null,
    })
    await t.rejects(issue('ci', await makeSigningRequest(key, 'x')), { code: 'exists' })
    t.same((await showPublishers(context.storage.db, wholeList)).items, [made])
    t.equal(writeChain(signingKeyOf({ key, certificates: made.certificates }).chain), made.certificates)
    t.match((await world.events())[0]?.detail, { publisher: 'ci', fingerprint: made.fingerprint })
  })

  await t.test('a bad signature publishes nothing; a good one is stored with the image', async (t) => {
    const world = await openWorld()
    const { context } = world
    const { db } = context.storage
    const store = await storeOf(t)
    const publish = (signature?: unknown, of: unknown = document) =>
      publishImage(context, ann, store, { manifest: of, signature })
    await t.rejects(publish(byFarm), { code: 'signature-invalid', message: /no publisher is registered/ })
    await register(world, 'farm', farm)
    await t.rejects(publish({ ...byFarm, manifest: byCi.manifest }), { code: 'signature-invalid' })
    await t.rejects(publish({}), { code: 'invalid' })
    await t.rejects(publish(byFarm, { ...document, version: '2' }), {
      message: /manifest is over other bytes/,
    })
    await t.rejects(showImage(db, 'small', '1'), { code: 'not-found' }, 'nothing is visible')
    t.match(await publish(byFarm), { created: true, signedBy: 'farm' })
    t.match(await publish(byFarm), { created: false, signedBy: 'farm' }, 'again is nothing new')
    t.match(await publish(), { created: false, signedBy: null })
    t.match((await showImage(db, 'small', '1')).signatures, [
      { publisher: 'farm', signedAt: '2026-11-21T06:00:00.000Z', signedBy: 'operator:ann', revokedAt: null },
    ])
    t.same(
      (await showEvidence(db, 'small', '1')).signatures.map(({ signature }) => signature),
      [byFarm],
    )
    t.same(await world.kinds(), ['publisher-registered', 'image-published', 'image-signed'])
    t.match(await rereadImage(db, store, 'small', '1'), { ref: 'small@1', bytes: 1065 })
    const changed = JSON.stringify({ ...document, kernelArguments: 'evil' })
    await db.updateTable('images').set({ manifest: changed }).execute()
    await t.rejects(rereadImage(db, store, 'small', '1'), { code: 'digest-mismatch' })
  })

  await t.test('what is published is signed later, by several, and not by a revoked publisher', async (t) => {
    const world = await openWorld()
    const { context } = world
    await publishImage(context, ann, await storeOf(t), { manifest: document })
    const sign = (signature: unknown, by = ann) => addSignature(context, by, ref, signature)
    await register(world, 'farm', farm)
    const outside: By = { ...ann, role: 'publisher', scope: 'full*' }
    await t.rejects(sign(byFarm, outside), { code: 'forbidden' })
    const nowhere = { ...ref, version: parseManifest({ ...document, version: '9' }).version }
    await t.rejects(addSignature(context, ann, nowhere, byFarm), { code: 'not-found' })
    t.match(await sign(byFarm), { ref: 'small@1', publisher: 'farm', added: true })
    t.match(await sign(byFarm), { added: false })
    await register(world, 'ci', ci)
    world.clock.advance(60)
    t.match(await revokePublisher(context, ann, 'farm'), { onlySigned: ['small@1'] })
    await t.rejects(sign(byFarm), { code: 'signature-invalid', message: /"farm" was revoked at/ })
    t.match(await sign(byCi), { publisher: 'ci', added: true })
    t.match(await revokePublisher(context, ann, 'farm'), { onlySigned: [] }, 'again says how it stands')
    world.clock.advance(366 * 86_400)
    await t.rejects(sign(byCi), { message: /is good from/ }, 'an expired certificate signs nothing new')
    t.same(
      (await showImage(context.storage.db, 'small', '1')).signatures.map(({ publisher, revokedAt }) => [
        publisher,
        revokedAt,
      ]),
      [
        ['farm', '2026-11-21T06:01:00.000Z'],
        ['ci', null],
      ],
    )
  })
})
