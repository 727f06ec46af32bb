import t from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { manifestDigest, parseManifest } from '../../src/domain/image.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { insertImage } from '../../src/storage/images.ts'
import { demoProfile, manifestOf, storeDemoFleet, storeProfile } from '../helpers/fleet.ts'
import { askStage1, facts, machineOf } from '../helpers/machine.ts'
import { root } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** Which image a machine is given, by what its iPXE was built for; never one for another processor. */
async function publishForArm(world: World, ref: string, letter: string): Promise<void> {
  const row = manifestOf(ref, letter, world.clock.now().toISOString())
  const manifest = parseManifest({ ...JSON.parse(row.manifest), arch: 'arm64' })
  const image = { ...row, manifest: canonicalJson(manifest), digest: manifestDigest(manifest) }
  await world.context.storage.transaction((tx) => insertImage(tx, image))
}

const unsigned = { ...demoProfile, acceptUnsigned: true }

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<{
    world: World
    asked: (told: Record<string, string>) => Promise<unknown>
  }> {
    const world = await openWorld()
    const secret = await storeDemoFleet(world)
    await publishForArm(world, 'small-arm@1', 'd')
    await publishForArm(world, 'full-arm@1', 'e')
    /** The images that the session is pinned to, or why it was refused. */
    const asked = async (told: Record<string, string>): Promise<unknown> => {
      const before = await world.context.storage.db.selectFrom('tokens').select('id').execute()
      try {
        const { session } = await askStage1(
          world,
          machineOf(secret, { fields: { ...facts, ...told, secret } }),
        )
        const { pinned } = await world.context.storage.db
          .selectFrom('sessions')
          .select('pinned')
          .where('id', '=', session ?? '')
          .executeTakeFirstOrThrow()
        const { stage2, stage3 } = JSON.parse(pinned).images
        return [stage2.ref, stage3.ref]
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        const after = await world.context.storage.db.selectFrom('tokens').select('id').execute()
        t.same(after, before, 'a refusal mints no token')
        return [error.why, error.subject.detail]
      }
    }
    return { world, asked }
  }

  await t.test('a kernel for another processor is never sent', async (t) => {
    const { world, asked } = await open()
    t.strictSame(await asked({ buildarch: 'arm64' }), [
      'wrong-architecture',
      { buildarch: 'arm64', image: 'small@1', imageArch: 'x86_64' },
    ])
    t.strictSame(await asked({ buildarch: 'riscv64' }), [
      'wrong-architecture',
      { buildarch: 'riscv64', image: 'small@1', imageArch: 'x86_64' },
    ])
    await storeProfile(world, { ...unsigned, boot: { stage2: 'small@1', stage3: 'full-arm@1' } })
    t.strictSame(
      await asked({ buildarch: 'x86_64' }),
      ['wrong-architecture', { buildarch: 'x86_64', image: 'full-arm@1', imageArch: 'arm64' }],
      'stage 3 counts too, before anything is loaded',
    )
    const armOnly = { stage2: { arm64: 'small-arm@1' }, stage3: { arm64: 'full-arm@1' } }
    await storeProfile(world, { ...unsigned, boot: armOnly })
    t.strictSame(await asked({ buildarch: 'i386' }), [
      'wrong-architecture',
      { buildarch: 'i386', images: ['arm64'] },
    ])
    t.strictSame(
      await asked({}),
      ['wrong-architecture', { buildarch: null, images: ['arm64'] }],
      'with an image for each architecture it must be told',
    )
  })

  await t.test('one profile serves both architectures', async (t) => {
    const { world, asked } = await open()
    t.strictSame(await asked({}), ['small@1', 'full@1'], 'one image for all needs no word')
    const boot = {
      stage2: { x86_64: 'small@1', arm64: 'small-arm@1' },
      stage3: { x86_64: 'full@1', arm64: 'full-arm@1' },
    }
    await storeProfile(world, { ...unsigned, boot })
    t.strictSame(await asked({ buildarch: 'arm64' }), ['small-arm@1', 'full-arm@1'])
    t.strictSame(await asked({ buildarch: 'x86_64' }), ['small@1', 'full@1'])
    t.strictSame(
      await asked({ buildarch: 'i386' }),
      ['small@1', 'full@1'],
      'a BIOS build runs on the same PC',
    )
  })

  await t.test('a profile that mixes them up is refused when it is applied', async (t) => {
    const { world } = await open()
    const boot = { stage2: { x86_64: 'small@1', arm64: 'small-arm@1' }, stage3: { arm64: 'full@1' } }
    await t.rejects(applyProfile(world.context, root, 'demo', { ...demoProfile, boot }), {
      code: 'invalid',
      message: 'profile "demo": stage3 gives full@1 to arm64 machines, and full@1 is for x86_64',
    })
    for (const stage2 of [{}, { sparc: 'small@1' }, { arm64: 'small' }, { arm64: '' }, { arm64: 1 }, []])
      await t.rejects(
        applyProfile(world.context, root, 'demo', { ...demoProfile, boot: { stage2, stage3: 'full@1' } }),
        { code: 'invalid' },
        JSON.stringify(stage2),
      )
  })
})
