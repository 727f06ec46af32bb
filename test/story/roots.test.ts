import { X509Certificate } from 'node:crypto'
import t from 'tap'
import type { BootEntry } from '../../src/boot/entry.ts'
import { openSignature } from '../../src/boot/signed-manifest.ts'
import { siteScript } from '../../src/boot/site-script.ts'
import { parseManifest } from '../../src/domain/image.ts'
import { checkCms } from '../../src/domain/signature.ts'
import type { By } from '../../src/fleet/change.ts'
import { registerPublisher } from '../../src/fleet/publishers.ts'
import { showRoots } from '../../src/fleet/roots.ts'
import { signImage as addSignature } from '../../src/fleet/signatures.ts'
import { signImage } from '../../src/pki/code-signing.ts'
import { rootFingerprint } from '../../src/pki/x509.ts'
import { findImage } from '../../src/storage/fleet.ts'
import { listRootUsers } from '../../src/storage/node-roots.ts'
import { demoProfile, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { askHandover, askStage, askStage1, boot, machineOf } from '../helpers/machine.ts'
import { newSigner, signingKeyOf, testPublisher } from '../helpers/signing.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** Two roots are served: each boot goes on by the address and the root that it came by, whoever is asked. */
const entry = (name: string, letter: string): BootEntry => ({
  publicUrl: `https://${name}.example.test`,
  root: letter.repeat(64),
  ca: `-----BEGIN CERTIFICATE-----\n${letter}\n-----END CERTIFICATE-----\n`,
})
const main = entry('new', 'b')
const old = entry('old', 'a')

/** The same world as a listener with this entry has it. */
const by = (world: World, one: BootEntry, all: readonly BootEntry[] = [main, old]): World => ({
  ...world,
  context: { ...world.context, entry: one, entries: () => all },
})

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<{ world: World; secret: string }> {
    const world = await openWorld()
    return { world, secret: await storeDemoFleet(world) }
  }

  for (const [name, came, other] of [
    ['the old root', old, main],
    ['the new root', main, old],
  ] as const) {
    await t.test(`a boot that came by ${name} stays with it, through another listener too`, async (t) => {
      const { world, secret } = await open()
      const machine = machineOf(secret)
      const first = await askStage1(by(world, came), machine)
      const base = `${came.publicUrl}/v1/boot/node1`
      t.match(first.values, {
        kernelUrl: `${base}/artifacts/kernel`,
        initramfsUrl: `${base}/artifacts/initramfs`,
        handoverUrl: `${base}/handover`,
        signaturesUrl: `${base}/artifacts`,
      })
      const { stage2, document } = await askHandover(by(world, other), machine, first.handoverToken)
      t.match(document, { base, ca: came.ca })
      const second = await askStage(by(world, other), machine, 'stage2', stage2, 'k'.repeat(22))
      t.match(second.document, {
        kernel: { url: `${base}/artifacts/kernel` },
        handover: { base, ca: came.ca, filesystem: { url: `${base}/artifacts/filesystem` } },
      })
      t.notMatch(second.text, other.publicUrl)
      const again = await askStage(by(world, came), machine, 'stage2', stage2, 'k'.repeat(22))
      t.equal(again.text, second.text, 'a repeated answer is the same')
      const { stage3 } = (second.document.handover as { tokens: { stage3: string } }).tokens
      const third = await askStage(by(world, came), machine, 'stage3', stage3, 'k'.repeat(22))
      const both = [main.publicUrl, old.publicUrl]
      t.same(third.document.bootListeners, both, 'the node closes both for its users')
      t.match(await listRootUsers(world.context.storage.db, came.root, 10), [
        { node: 'node1', otherAt: null },
      ])
      t.same(await listRootUsers(world.context.storage.db, other.root, 10), [])
    })
  }

  await t.test('a session whose root is served no more goes on by the one that was asked', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const first = await askStage1(by(world, old), machine)
    const { document } = await askHandover(by(world, main, [main]), machine, first.handoverToken)
    t.match(document, { base: `${main.publicUrl}/v1/boot/node1`, ca: main.ca })
  })

  await t.test('epoxy profiles and digest downloads name the entry too', async (t) => {
    const { world, secret } = await open()
    await storeProfile(world, { ...demoProfile, downloads: 'digest' })
    const { values } = await askStage1(by(world, old), machineOf(secret))
    t.match(values.kernelUrl, /^https:\/\/old\.example\.test\/v1\/artifacts\/sha256\//)
    t.match(siteScript(by(world, old).context, { host: 'node1' }), '"publicUrl":"https://old.example.test"')
    t.match(siteScript(by(world, main).context, {}), '"publicUrl":"https://new.example.test"')
  })

  await t.test(
    'which nodes need the old root: those that prove to be one, held and local boots too',
    async (t) => {
      const { world, secret } = await open()
      const { db } = world.context.storage
      const names = async (): Promise<string[]> =>
        (await listRootUsers(db, old.root, 10, { lastOnly: true })).map(({ node }) => node).sort()
      await storeProfile(world, { ...demoProfile, name: 'disk', boot: 'local' })
      const disk = await storeNode(world, { name: 'disk', profile: 'disk' })
      const held = await storeNode(world, { name: 'held', state: 'held' })
      const asks = (host: string, secret: string, at: BootEntry) =>
        askStage1(by(world, at), { ...machineOf(secret), host, fields: { secret } })
      await t.rejects(asks('disk', secret, old), 'a refused machine')
      t.same(await names(), [], 'counts for nothing: anybody can ask')
      await asks('disk', disk, old)
      await asks('held', held, old)
      await boot(by(world, old), machineOf(secret), 'ready')
      t.same(await names(), ['disk', 'held', 'node1'])
      world.clock.advance(20 * 86_400)
      await asks('disk', disk, main)
      t.same(await names(), ['held', 'node1'], 'who came by the new root since')
      const shown = (days: number) => showRoots(by(world, main).context, { days, next: undefined })
      t.match(await shown(30), {
        rotation: 'served',
        entries: [
          { name: 'main', publicUrl: main.publicUrl, root: main.root, certificates: main.ca, nodes: 1 },
          { name: 'old', publicUrl: old.publicUrl, root: old.root, nodes: 3 },
        ],
        next: null,
        users: [
          { node: 'disk', otherAt: /^2026-12-11/ },
          { node: 'held', otherAt: null },
          { node: 'node1', otherAt: null },
        ],
      })
      t.equal((await shown(7)).entries[1]?.nodes, 0, 'none in the last week')
      await asks('disk', disk, old)
      t.same(await names(), ['disk', 'held', 'node1'], 'and who went back to it')
      const one = by(world, main, [main]).context
      const next = { root: 'c'.repeat(64), certificates: 'PEM' }
      t.match(await showRoots(one, { days: 30, next }), { rotation: 'made', next, users: [] })
      t.match(await showRoots(one, { days: 30, next: undefined }), { rotation: 'none', next: null })
    },
  )

  await t.test(
    'an image signed under both roots is verified by the one that the machine knows',
    async (t) => {
      const { world, secret } = await open()
      const ann: By = { actor: 'operator:ann', source: null, role: 'admin' }
      const second = await newSigner('under-new')
      await registerPublisher(world.context, ann, { name: 'under-new', certificates: second.certificates })
      const row = await findImage(world.context.storage.db, 'small', '1')
      const manifest = parseManifest(JSON.parse(row?.manifest ?? ''))
      await addSignature(world.context, ann, manifest, signImage(signingKeyOf(second), manifest))
      const first = await testPublisher()
      // Certificates of their own: each is its own root.
      const entries = [second, first].map(({ certificates }, at) => ({
        ...[main, old][at]!,
        root: rootFingerprint(new X509Certificate(certificates).toString()),
      }))
      for (const [at, signer] of [second, first].entries()) {
        const here = by(world, entries[at]!, entries)
        const { capability } = await askStage1(here, machineOf(secret))
        const asked = {
          host: 'node1',
          source: '192.0.2.10',
          request: 'artifacts',
          role: 'kernel',
          capability,
        }
        const { digest } = manifest.artifacts.find(({ role }) => role === 'kernel')!
        checkCms(await openSignature(here.context, asked), 'kernel', digest, signingKeyOf(signer).chain)
        t.pass(at === 0 ? 'by the new root' : 'by the old root')
      }
      const elsewhere = by(world, main)
      const { capability } = await askStage1(elsewhere, machineOf(secret))
      const asked = { host: 'node1', source: '192.0.2.10', request: 'artifacts', role: 'kernel', capability }
      const { digest } = manifest.artifacts.find(({ role }) => role === 'kernel')!
      checkCms(await openSignature(elsewhere.context, asked), 'kernel', digest, signingKeyOf(first).chain)
      t.pass('where none leads to its root, by the earliest')
    },
  )
})
