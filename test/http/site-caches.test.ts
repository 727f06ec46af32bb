import t, { type Test } from 'tap'
import { demoProfile, publishImage, storeNode, storeProfile } from '../helpers/fleet.ts'
import { askHandover, askStage, askStage1, boot, facts, machineOf } from '../helpers/machine.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'

const ams = 'http://cache.ams.example.net:8080'
const bySite = { downloads: 'digest', artifactBase: { ams, fra: 'https://cache.fra.example.net' } }
const at = (base: string, digest: string) => `${base}/v1/artifacts/sha256/${digest}`

interface Wish {
  readonly profile?: object
  readonly labels?: Record<string, string>
  readonly fields?: object
  readonly context?: object
}

/** A world with the node `node1` in Amsterdam, and its machine: an iPXE 2.0.0 under UEFI. */
async function open(_t: Test, openWorld: OpenWorld, wish: Wish) {
  const plain = await openWorld()
  const world = { ...plain, context: { ...plain.context, ...wish.context } }
  await publishImage(world, 'small@1', 'a', false)
  await publishImage(world, 'full@1', 'c')
  await storeProfile(world, { ...demoProfile, reinstall: demoProfile.boot, ...wish.profile })
  const secret = await storeNode(world, {
    name: 'node1',
    labels: JSON.stringify(wish.labels ?? { site: 'ams' }),
  })
  const fields = { ...facts, secret, version: '2.0.0', ...wish.fields }
  return { world, machine: machineOf(secret, { fields }) }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('an iPXE is sent to a cache only where it checks digests', async (t) => {
    const none: [string, Wish][] = [
      ['before 2.0.0', { profile: bySite, fields: { version: '1.21.1+git' } }],
      ['BIOS, where the command may be missing', { profile: bySite, fields: { platform: 'pcbios' } }],
      ['it does not tell its version', { profile: bySite, fields: { version: undefined } }],
      ['its site has no cache', { profile: bySite, labels: { site: 'lon' } }],
      ['its node has no site', { profile: bySite, labels: {} }],
      ['the profile names none', { profile: { downloads: 'digest' } }],
    ]
    for (const [name, wish] of none) {
      const { world, machine } = await open(t, openWorld, wish)
      const { values } = await askStage1(world, machine)
      t.strictSame([values.kernelMirrorUrl, values.initramfsMirrorUrl], ['', ''], name)
      t.match(values.kernelUrl, /^https:\/\/.*\/v1\/artifacts\/sha256\/a{63}1$/, `${name}: from Pawl itself`)
    }
    const { world, machine } = await open(t, openWorld, { profile: bySite })
    const { values } = await askStage1(world, machine)
    t.strictSame(
      [values.kernelMirrorUrl, values.initramfsMirrorUrl, values.verifyDigests, values.capability],
      [at(ams, `${'a'.repeat(63)}1`), at(ams, `${'a'.repeat(63)}2`), true, ''],
    )
  })

  await t.test('agents are told of the cache beside the server, and what CA it may have', async (t) => {
    const ca = '-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n'
    const { world, machine } = await open(t, openWorld, { profile: bySite, context: { artifactCa: ca } })
    const { handoverToken } = await askStage1(world, machine)
    const { document, stage2 } = await askHandover(world, machine, handoverToken)
    t.strictSame(document.downloads, { mirrorCa: ca })
    const answer = (await askStage(world, machine, 'stage2', stage2)).document
    const parts = [answer.kernel, answer.initramfs, (answer.handover as { filesystem: object }).filesystem]
    t.match(
      parts,
      [1, 2, 3].map((n) => ({
        url: /^https:\/\/[^/]+\/v1\/artifacts\/sha256\/c{63}/,
        mirror: at(ams, 'c'.repeat(63) + n),
        sha256: 'c'.repeat(63) + n,
      })),
    )
    t.notMatch(
      JSON.stringify(parts.map((part) => (part as { mirror: string }).mirror)),
      /[?=]/,
      'no capability',
    )
  })

  await t.test('a session keeps the cache that it began with', async (t) => {
    const { world, machine } = await open(t, openWorld, { profile: bySite })
    const { stage2 } = await boot(world, machine, 'handover')
    await storeProfile(world, { ...demoProfile, reinstall: demoProfile.boot, downloads: 'digest' })
    const { document } = await askStage(world, machine, 'stage2', stage2)
    t.match(document.kernel, { mirror: at(ams, `${'c'.repeat(63)}1`) })
  })

  await t.test(
    'without a cache, a redirect URL that opens to everyone is one; a signed one is not',
    async (t) => {
      const origin = 'https://cdn.example.net'
      const urlOf = async (digest: string) => `${origin}/x/sha256/${digest}`
      const open_ = {
        origin,
        ca: undefined,
        urlOf,
        openUrlOf: (digest: string) => `${origin}/x/sha256/${digest}`,
      }
      const signed = { origin, ca: undefined, urlOf }
      const profile = { downloads: 'digest', redirects: true }
      const cases: [object, object, unknown][] = [
        [profile, open_, `${origin}/x/sha256/${'a'.repeat(63)}1`],
        [profile, signed, ''],
        [{ ...profile, redirects: false }, open_, ''],
        [{ ...profile, downloads: 'session' }, open_, ''],
        [{ ...profile, artifactBase: ams }, open_, at(ams, `${'a'.repeat(63)}1`)],
      ]
      for (const [of, redirects, expected] of cases) {
        const { world, machine } = await open(t, openWorld, { profile: of, context: { redirects } })
        t.equal((await askStage1(world, machine)).values.kernelMirrorUrl, expected, JSON.stringify(of))
      }
    },
  )
})
