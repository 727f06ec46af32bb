import { join } from 'node:path'
import { createLocalJWKSet, type JWK, jwtVerify, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { extensionRing } from '../../src/boot/extension-keys.ts'
import { identityKeySet } from '../../src/boot/identity-keys.ts'
import { type KeyRing, keySet, openSigner, ringAlgorithm } from '../../src/boot/key-ring.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import { demoProfile, storeProfile } from '../helpers/fleet.ts'
import { ask, base, refused, register, urlOf, vault } from '../helpers/identity.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { nodeKey, proofOf } from '../helpers/node-key.ts'
import { openAt, type World } from '../helpers/world.ts'
import {
  backup,
  forEachPlace,
  install,
  type Place,
  postgres,
  restore,
  sqlite,
  temporaryFolder,
} from './helpers.ts'

const now = Date.now()

/** An installation as its server has it: the key that seals its settings is in its data folder. Its clock stands still. */
async function open(t: Test, dataDir: string, database: string): Promise<World> {
  const world = await openAt(t, database, {})
  world.clock.advance((now - world.clock.now().getTime()) / 1000)
  return { ...world, context: { ...world.context, sealer: settingsSealer(settingsKey(dataDir)) } }
}

/** What a relying party has fetched, and keeps. */
async function cached(ring: KeyRing, world: World): Promise<ReturnType<typeof createLocalJWKSet>> {
  return createLocalJWKSet((await keySet(ring, world.context)) as { keys: JWK[] })
}

/** A JWT as a service is sent one. */
async function signed(ring: KeyRing, world: World): Promise<string> {
  const { kid, key } = await openSigner(ring, world.context)
  return new SignJWT({}).setProtectedHeader({ alg: ringAlgorithm, kid }).sign(key)
}

await forEachPlace(t, async (t, place) => {
  const other: Place = place === sqlite ? postgres : sqlite
  await t.test('a restored backup has the keys: who cached the key sets, and the nodes, go on', async (t) => {
    const installed = await install(t, place)
    const before = await open(t, installed.dataDir, installed.database)
    const profile = { ...demoProfile, acceptUnsigned: true, identity: { audiences: [vault] } }
    await storeProfile(before, profile)
    const machine = machineOf(installed.secret)
    const learnt = await boot(before, machine, 'join')
    const key = await nodeKey()
    await register(before, key, learnt.report)
    await report(before, machine, learnt.report, 'success')
    const used = await proofOf(key, { url: urlOf('identity'), at: before.clock.now() })
    const document = await ask(before, key, vault, { proof: used })
    const asked = await signed(extensionRing, before)
    const identities = createLocalJWKSet((await identityKeySet(before.context)) as { keys: JWK[] })
    const extensions = await cached(extensionRing, before)
    const file = join(temporaryFolder(t), 'pawl.tar')
    await backup(installed, file)
    await before.context.storage.close()

    const dataDir = join(temporaryFolder(t), 'restored')
    const database = await other(dataDir)
    await restore(file, dataDir, database)
    const after = await open(t, dataDir, database)
    const wanted = { audience: vault, subject: `node:${base.host}`, currentDate: after.clock.now() }
    const published = createLocalJWKSet((await identityKeySet(after.context)) as { keys: JWK[] })
    t.ok(await jwtVerify(document.token, published, wanted), 'a document of before is good after')
    await refused(t, ask(after, key, vault, { proof: used }), 'identity-proof-used')
    const renewed = await ask(after, key)
    t.ok(await jwtVerify(renewed.token, identities, wanted), 'one of after by the keys that were cached')
    t.ok(await jwtVerify(await signed(extensionRing, after), extensions), 'and what services are asked')
    t.ok(await jwtVerify(asked, await cached(extensionRing, after)))
    const dump = await after.dump()
    t.notMatch(dump, 'PRIVATE KEY', 'and they are as sealed as they were')
  })
})
