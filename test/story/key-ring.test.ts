import { createLocalJWKSet, type JWK, jwtVerify, SignJWT } from 'jose'
import t from 'tap'
import { extensionRing } from '../../src/boot/extension-keys.ts'
import { identityRing } from '../../src/boot/identity-keys.ts'
import {
  addKey,
  type KeyRing,
  keySet,
  makeKey,
  openKey,
  openSigner,
  publishedKeys,
  ringAlgorithm,
  ringKeys,
  signingKey,
  tendRing,
} from '../../src/boot/key-ring.ts'
import { inTransaction } from '../../src/boot/work.ts'
import type { SigningKeyRow } from '../../src/storage/signing-key-tables.ts'
import { addSigningKey } from '../../src/storage/signing-keys.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const rings: readonly (readonly [KeyRing, KeyRing])[] = [
  [identityRing, extensionRing],
  [extensionRing, identityRing],
]

/** Makes the next key, published 10 s before it signs; the one before is published for 20 s behind that. */
async function next(world: World, ring: KeyRing, newest: SigningKeyRow | undefined, withdraw = false) {
  const made = await makeKey(ring, world.context)
  const handover = { leadSeconds: 10, trailSeconds: 20, withdraw }
  return inTransaction(world.context, (work) => addKey(ring, work, made, newest, handover))
}

await forEachDatabase(t, async (t, openWorld) => {
  for (const [ring, other] of rings) {
    await t.test(`${ring.table}: of those who ask first one makes the key`, async (t) => {
      const world = await openWorld()
      const all = await Promise.all(Array.from({ length: 5 }, () => ringKeys(ring, world.context)))
      t.equal(new Set(all.flat().map(({ kid }) => kid)).size, 1)
      t.same(await world.kinds(), [ring.made], 'told once')
      t.match(await signer(world, ring), all[0]?.[0]?.kid)
    })

    await t.test(`${ring.table}: a key is published before it signs, and after`, async (t) => {
      const world = await openWorld()
      const state = async () => {
        const [rows, now] = [await ringKeys(ring, world.context), world.clock.now()]
        const signs = signingKey(rows, now)?.generation
        return `${publishedKeys(rows, now).map(({ generation }) => generation)} ${signs}`
      }
      const [first] = await ringKeys(ring, world.context)
      t.equal(await state(), '1 1')
      const second = await next(world, ring, first)
      t.equal(await next(world, ring, first), undefined, 'of two that make the same one, the first does')
      const rows: [number, string][] = [
        [0, '2,1 1'],
        [9, '2,1 1'],
        [1, '2,1 2'],
        [19, '2,1 2'],
        [1, '2 2'],
      ]
      for (const [seconds, wanted] of rows) {
        world.clock.advance(seconds)
        t.equal(await state(), wanted)
      }
      await next(world, ring, second)
      t.equal(await state(), '3,2 2')
      t.equal(await tendRing(ring, world.context, 1), undefined)
      const [third] = await ringKeys(ring, world.context)
      await next(world, ring, third, true)
      t.equal(await state(), '4 4', 'those that others may have are withdrawn at once')
      world.clock.advance(86_399)
      t.equal(await tendRing(ring, world.context, 1), undefined)
      world.clock.advance(1)
      t.match(await tendRing(ring, world.context, 1), { generation: 4 }, 'its time is up')
    })

    await t.test(`${ring.table}: a key of ${other.table} signs nothing here`, async (t) => {
      const world = await openWorld()
      const own = await openSigner(ring, world.context)
      const foreign = await openSigner(other, world.context)
      const sign = ({ kid, key }: typeof own, as = kid) =>
        new SignJWT({}).setProtectedHeader({ alg: ringAlgorithm, kid: as }).sign(key)
      const keys = createLocalJWKSet((await keySet(ring, world.context)) as { keys: JWK[] })
      t.ok(await jwtVerify(await sign(own), keys))
      await t.rejects(jwtVerify(await sign(foreign), keys), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
      await t.rejects(jwtVerify(await sign(foreign, own.kid), keys), {
        code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
      })
      // Whoever can write to the database, and has no settings key, moves a row from one table to the other.
      const [row] = await ringKeys(other, world.context)
      if (row === undefined) throw new Error('there is no key')
      t.throws(() => openKey(ring, world.context, row), {
        code: 'key-unreadable',
        hint: /restore|another key/,
      })
      const at = world.clock.now().toISOString()
      const moved = { ...row, generation: 2, signs_from: at }
      await world.context.storage.transaction((tx) => addSigningKey(tx, ring.table, moved))
      await t.rejects(openSigner(ring, world.context), { code: 'key-unreadable' })
    })
  }
})

async function signer(world: World, ring: KeyRing): Promise<string> {
  return (await openSigner(ring, world.context)).kid
}
