import t from 'tap'
import { openSignature } from '../../src/boot/signed-manifest.ts'
import { digestOf } from '../../src/domain/digest.ts'
import { parseManifest } from '../../src/domain/image.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { checkCms } from '../../src/domain/signature.ts'
import type { By } from '../../src/fleet/change.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { registerPublisher, revokePublisher } from '../../src/fleet/publishers.ts'
import { signImage as addSignature } from '../../src/fleet/signatures.ts'
import { signImage } from '../../src/pki/code-signing.ts'
import { findImage } from '../../src/storage/fleet.ts'
import { demoProfile, publishImage, storeDemoFleet, storeProfile } from '../helpers/fleet.ts'
import { askHandover, askStage, askStage1, boot, machineOf } from '../helpers/machine.ts'
import { newSigner, signingKeyOf, testPublisher } from '../helpers/signing.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const ann: By = { actor: 'operator:ann', source: null, role: 'admin' }
const other = await newSigner('other')

async function causeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (error instanceof Refusal) return error.why
    throw error
  }
  return 'served'
}

/** Signs an image as another publisher than the one that signs everything in tests. */
async function signAsOther({ context }: World, ref: string): Promise<void> {
  const row = await findImage(context.storage.db, ...(ref.split('@') as [string, string]))
  const manifest = parseManifest(JSON.parse(row?.manifest ?? ''))
  await addSignature(context, ann, manifest, signImage(signingKeyOf(other), manifest))
}

const unsign = ({ context }: World, name: string) =>
  context.storage.db.deleteFrom('image_signatures').where('name', '=', name).execute()

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<{ world: World; secret: string }> {
    const world = await openWorld()
    const secret = await storeDemoFleet(world)
    await registerPublisher(world.context, ann, { name: 'other', certificates: other.certificates })
    return { world, secret }
  }

  await t.test('an image is served only where a publisher signed it whom the profile trusts', async (t) => {
    const cases: [
      what: string,
      profile: object,
      prepare: (world: World) => Promise<unknown>,
      cause: string,
    ][] = [
      ['signed, no list', {}, async () => {}, 'served'],
      ['stage 2 unsigned', {}, (w) => unsign(w, 'small'), 'image-unsigned'],
      ['stage 3 unsigned', {}, (w) => unsign(w, 'full'), 'image-unsigned'],
      ['unsigned, with a list', { publishers: ['builder'] }, (w) => unsign(w, 'full'), 'image-unsigned'],
      ['unsigned and accepted', { acceptUnsigned: true }, (w) => unsign(w, 'full'), 'served'],
      ['signed by one that is listed', { publishers: ['other', 'builder'] }, async () => {}, 'served'],
      [
        'signed by one that is not listed',
        { publishers: ['other'] },
        async () => {},
        'publisher-not-trusted',
      ],
      [
        'only one of two is signed by the listed',
        { publishers: ['other'] },
        (w) => signAsOther(w, 'small@1'),
        'publisher-not-trusted',
      ],
      [
        'both are signed by the listed',
        { publishers: ['other'] },
        async (w) => [await signAsOther(w, 'small@1'), await signAsOther(w, 'full@1')],
        'served',
      ],
      ['a list of nobody there is', { publishers: ['nobody'] }, async () => {}, 'publisher-not-trusted'],
      [
        'its publisher was revoked',
        {},
        (w) => revokePublisher(w.context, ann, 'builder'),
        'publisher-not-trusted',
      ],
      [
        'listed and revoked',
        { publishers: ['builder'] },
        (w) => revokePublisher(w.context, ann, 'builder'),
        'publisher-not-trusted',
      ],
      [
        'revoked, and accepted unsigned',
        { acceptUnsigned: true },
        (w) => revokePublisher(w.context, ann, 'builder'),
        'served',
      ],
    ]
    for (const [what, profile, prepare, cause] of cases) {
      const { world, secret } = await open()
      await storeProfile(world, { ...demoProfile, ...profile })
      await prepare(world)
      t.equal(await causeOf(askStage1(world, machineOf(secret))), cause, what)
      const refused = (await world.events()).filter(({ kind }) => kind === 'refused')
      t.same(
        refused.map(({ detail }) => detail.cause),
        cause === 'served' ? [] : [cause],
        what,
      )
    }
  })

  await t.test('a refusal says which image, and who signed it', async (t) => {
    const { world, secret } = await open()
    await signAsOther(world, 'full@1')
    await revokePublisher(world.context, ann, 'builder')
    await storeProfile(world, { ...demoProfile, publishers: ['builder'] })
    await causeOf(askStage1(world, machineOf(secret)))
    t.match((await world.events()).at(-1)?.detail, {
      cause: 'publisher-not-trusted',
      image: 'small@1',
      signedBy: ['builder (revoked)'],
    })
  })

  await t.test('stage 2 brings the manifest as it was signed, with the signatures that count', async (t) => {
    const { world, secret } = await open()
    await signAsOther(world, 'full@1')
    await signAsOther(world, 'small@1')
    await storeProfile(world, { ...demoProfile, publishers: ['other'] })
    const machine = machineOf(secret)
    const { stage2 } = await boot(world, machine, 'handover')
    const [opened] = await world.events({ kind: 'session-opened' })
    t.same(opened?.detail.signedBy, { stage2: ['other'], stage3: ['other'] }, 'the event says who')
    const { document } = await askStage(world, machine, 'stage2', stage2)
    const [signature, ...more] = document.signatures as string[]
    t.same(more, [], 'the other publisher is not on the list')
    const text = document.manifest as string
    checkCms(Buffer.from(signature ?? '', 'base64'), 'manifest', digestOf(text), signingKeyOf(other).chain)
    const { kernel, image } = document as { kernel: { sha256: string }; image: string }
    const manifest = parseManifest(JSON.parse(text))
    t.equal(`${manifest.name}@${manifest.version}`, image)
    t.equal(manifest.artifacts[0]?.digest, kernel.sha256)
    t.equal(document.stage, 'stage2')
  })

  await t.test(
    'signatures of a publisher who is revoked in the middle of a boot are not handed out',
    async (t) => {
      const { world, secret } = await open()
      const machine = machineOf(secret)
      const { stage2, capability } = await boot(world, machine, 'handover')
      const asked = { host: 'node1', source: '192.0.2.10', request: 'artifacts', role: 'kernel', capability }
      const der = await openSignature(world.context, asked)
      checkCms(
        der,
        'kernel',
        digestOfKernel(await findImage(world.context.storage.db, 'small', '1')),
        signingKeyOf(await testPublisher()).chain,
      )
      t.equal(
        await causeOf(openSignature(world.context, { ...asked, role: 'filesystem' })),
        'no-such-artifact',
      )
      t.equal(await causeOf(openSignature(world.context, { ...asked, capability: undefined })), 'no-token')
      await revokePublisher(world.context, ann, 'builder')
      t.equal(await causeOf(openSignature(world.context, asked)), 'image-unsigned')
      const { document } = await askStage(world, machine, 'stage2', stage2)
      t.same(document.signatures, [], 'which the agent refuses')
      t.match(
        (await world.events()).filter(({ kind }) => kind === 'refused').map(({ detail }) => detail.cause),
        ['no-such-artifact', 'no-token', 'image-unsigned'],
      )
    },
  )

  await t.test('a signature that was handed out is not given for one that took its place', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const signedNow = async () => {
      const { stage2 } = await boot(world, machine, 'handover')
      const { document } = await askStage(world, machine, 'stage2', stage2)
      return document as { manifest: string; signatures: string[] }
    }
    const before = await signedNow()
    t.equal(before.signatures.length, 1)
    await unsign(world, 'full')
    await signAsOther(world, 'full@1')
    const others = await signedNow()
    t.equal(others.signatures.length, 1)
    const cms = (of: { signatures: string[] }) => Buffer.from(of.signatures[0] ?? '', 'base64')
    checkCms(cms(others), 'manifest', digestOf(others.manifest), signingKeyOf(other).chain)
    // Of the same publisher and at the same moment, with other bytes: pruned, and published anew.
    await world.context.storage.db.deleteFrom('images').where('name', '=', 'full').execute()
    await publishImage(world, 'full@1', 'd')
    const anew = await signedNow()
    t.not(anew.manifest, before.manifest)
    const { chain } = signingKeyOf(await testPublisher())
    checkCms(cms(anew), 'manifest', digestOf(anew.manifest), chain)
    t.throws(() => checkCms(cms(before), 'manifest', digestOf(anew.manifest), chain), 'nor would it be right')
  })

  await t.test('an unsigned image of a profile that accepts it comes without signatures', async (t) => {
    const { world, secret } = await open()
    await storeProfile(world, { ...demoProfile, acceptUnsigned: true })
    await unsign(world, 'full')
    const machine = machineOf(secret)
    const first = await askStage1(world, machine)
    const { stage2 } = await askHandover(world, machine, first.handoverToken)
    const { document } = await askStage(world, machine, 'stage2', stage2)
    t.same(document.signatures, [])
    t.type(document.manifest, 'string')
  })

  await t.test('a profile whose images would be refused is applied with a warning', async (t) => {
    const { world } = await open()
    const warningsOf = async (more: object) =>
      (await applyProfile(world.context, ann, 'demo', { ...demoProfile, ...more })).warnings
    t.same(await warningsOf({}), [])
    t.match(await warningsOf({ publishers: ['other'] }), [
      /^image small@1 is signed by builder only: boots of profile "demo"/,
      /full@1/,
      /full@2/,
    ])
    await unsign(world, 'small')
    t.match(await warningsOf({}), [/^image small@1 is not signed: boots of profile "demo" are refused until/])
    t.same(await warningsOf({ acceptUnsigned: true }), [])
  })
})

function digestOfKernel(row: { manifest: string } | undefined) {
  const [kernel] = parseManifest(JSON.parse(row?.manifest ?? '')).artifacts
  if (kernel === undefined) throw new Error('no kernel')
  return kernel.digest
}
