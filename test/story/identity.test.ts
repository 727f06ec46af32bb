import { createLocalJWKSet, decodeJwt, type JWK, jwtVerify } from 'jose'
import t from 'tap'
import { expireSessions } from '../../src/boot/expire-sessions.ts'
import { issueIdentity } from '../../src/boot/identity.ts'
import { identityKeySet } from '../../src/boot/identity-keys.ts'
import type { Refusal, RefusalCause } from '../../src/domain/refusal.ts'
import { rotateIdentityKey, showIdentity, tendIdentityKeys } from '../../src/fleet/identity.ts'
import { disableNode, enableNode } from '../../src/fleet/nodes.ts'
import { byServer } from '../../src/fleet/operators.ts'
import { demoProfile, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import {
  ask,
  atStage3,
  base,
  identityProfile,
  inService,
  refused,
  register,
  urlOf,
  vault,
} from '../helpers/identity.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { nodeKey, proofOf } from '../helpers/node-key.ts'
import { forEachDatabase, testSettings, type World } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a key is registered once in a boot, by the boot, with a proof for its token', async (t) => {
    const { world, secret, report: token } = await atStage3(openWorld)
    const key = await nodeKey()
    await refused(t, register(world, key, undefined), 'no-token')
    await refused(t, register(world, key, 'x'.repeat(44)), 'unknown-token')
    await refused(t, register(world, key, `${token.slice(0, 12)}${'A'.repeat(32)}`), 'wrong-token-secret')
    await storeNode(world, { name: 'node2' })
    await refused(t, register(world, key, token, { host: 'node2' }), 'foreign-token')
    const bound = await refused(
      t,
      register(world, key, token, { claims: { ath: 'other' } }),
      'identity-proof',
    )
    t.equal(bound.subject.detail?.fault, 'wrong-token')
    const answer = await register(world, key, token)
    t.match(answer, { thumbprint: key.thumbprint, audiences: [vault, 'cluster'] })
    t.same(await register(world, key, token), answer, 'asked again it answers the same')
    await refused(t, register(world, await nodeKey(), token), 'identity-other-key')
    const kinds = await world.kinds({ node: 'node1' })
    t.equal(kinds.filter((kind) => kind === 'identity-key-registered').length, 1)
    t.notMatch(await world.dump(), token.slice(12), 'the token is nowhere')
    await refused(t, ask(world, await nodeKey()), 'identity-unknown-key')
    await boot(world, machineOf(secret), 'stage1')
    await refused(t, register(world, key, token), 'session-ended')
    await refused(t, ask(world, key), 'identity-other-boot')
  })

  await t.test('a stage token that is spent, late or of another stage registers nothing', async (t) => {
    const world = await openWorld()
    const secret = await storeDemoFleet(world)
    await storeProfile(world, identityProfile)
    const machine = machineOf(secret)
    const key = await nodeKey()
    const early = await boot(world, machine, 'stage2')
    await refused(t, register(world, key, early.report), 'wrong-order', 'before stage 3')
    await refused(t, register(world, key, early.stage3), 'wrong-order', 'the token of stage 3')
    await refused(t, register(world, key, early.handoverToken), 'wrong-order', 'the token of the handover')
    world.clock.advance(60)
    const whole = await boot(world, machine, 'ready')
    await refused(t, register(world, key, whole.join), 'wrong-order', 'the token of the join')
    await refused(t, register(world, key, whole.report), 'session-ended', 'after the success')
    world.clock.advance(86_401)
    await refused(t, register(world, key, whole.report), 'expired-token', 'past its lifetime')
    t.notOk((await world.kinds()).includes('identity-issued'))
  })

  await t.test('a document says who the node is, and lasts as long as it says', async (t) => {
    const { world, report: token, session } = await atStage3(openWorld)
    const key = await nodeKey('EdDSA')
    await register(world, key, token)
    const answer = await ask(world, key)
    t.match(answer, { audience: vault, renewInSeconds: 2400 })
    const keys = createLocalJWKSet((await identityKeySet(world.context)) as { keys: JWK[] })
    const wanted = {
      issuer: testSettings.publicUrl,
      audience: vault,
      algorithms: ['ES256'],
      typ: 'JWT',
      subject: 'node:node1',
    }
    const { payload } = await jwtVerify(answer.token, keys, { ...wanted, currentDate: world.clock.now() })
    const { jti, iat, exp, ...claims } = payload
    t.equal((exp ?? 0) - (iat ?? 0), 3600)
    t.match(jti, /^[\w-]{22}$/)
    const row = await world.context.storage.db
      .selectFrom('images')
      .select('digest')
      .where('name', '=', 'full')
      .where('version', '=', '1')
      .executeTakeFirstOrThrow()
    t.same(claims, {
      iss: 'https://boot.example.test:8443',
      sub: 'node:node1',
      aud: vault,
      node: 'node1',
      session,
      sequence: 'boot',
      profile: 'demo',
      image: 'full@1',
      image_digest: row.digest,
      evidence: ['secret'],
      labels: { rack: 'r7' },
      cnf: { jkt: key.thumbprint },
    })
    const late = { ...wanted, currentDate: new Date(world.clock.now().getTime() + 3600_000) }
    await t.rejects(jwtVerify(answer.token, keys, late), { code: 'ERR_JWT_EXPIRED' })
    await refused(t, ask(world, key, 'https://other.example'), 'identity-audience')
    await refused(
      t,
      issueIdentity(world.context, {
        ...base,
        request: 'identity',
        audience: undefined,
        proof: await proofOf(key, { url: urlOf('identity'), at: world.clock.now() }),
      }),
      'identity-audience',
      'one of several must be named',
    )
    await storeProfile(world, {
      ...identityProfile,
      identity: { audiences: ['cluster'], lifetimeSeconds: 300 },
    })
    await refused(t, ask(world, key, vault), 'identity-audience', 'an audience that was taken away')
    t.match(await ask(world, key, 'cluster'), { renewInSeconds: 150 })
    await storeProfile(world, demoProfile)
    await refused(t, ask(world, key, 'cluster'), 'no-identity')
  })

  await t.test('it is renewed while the node is in service, and events stay few', async (t) => {
    const { world, key } = await inService(openWorld)
    for (let hour = 0; hour < 30; hour += 1) {
      world.clock.advance(3600)
      await ask(world, key)
    }
    await ask(world, key, 'cluster')
    const issued = (await world.events({ node: 'node1' })).filter(({ kind }) => kind === 'identity-issued')
    t.same(
      issued.map(({ detail }) => detail.audience),
      [vault, 'cluster'],
    )
    const row = await world.context.storage.db
      .selectFrom('node_identities')
      .selectAll()
      .executeTakeFirstOrThrow()
    t.equal(row.issued_count, 31)
    for (let n = 0; n < 70; n += 1) await ask(world, key).catch(() => {})
    await refused(t, ask(world, key), 'identity-too-often')
    world.clock.advance(300)
    t.ok(await ask(world, key), 'and later it is given one again')
  })

  await t.test('who is not in service any more gets none', async (t) => {
    const ways: [string, RefusalCause, (world: World, secret: string) => Promise<unknown>][] = [
      [
        'disabled',
        'node-disabled',
        (world) => disableNode(world.context, { ...byServer, role: 'admin' }, 'node1'),
      ],
      ['booting anew', 'identity-other-boot', (world, secret) => boot(world, machineOf(secret), 'stage1')],
      ['booted anew', 'identity-other-boot', (world, secret) => boot(world, machineOf(secret), 'ready')],
      [
        'removed',
        'unknown-node',
        async (world) => {
          await world.context.storage.db.deleteFrom('nodes').execute()
        },
      ],
      [
        'of a storm',
        'identity-storm',
        (world) =>
          world.context.storage.db.updateTable('nodes').set({ labels: '{"pawl-storm":"1"}' }).execute(),
      ],
      [
        'of a profile that is gone',
        'no-identity',
        async (world) => {
          await world.context.storage.db.updateTable('nodes').set({ profile: null }).execute()
          await world.context.storage.db.deleteFrom('profiles').execute()
        },
      ],
      [
        'disabled and enabled again',
        'identity-not-in-service',
        async (world) => {
          const by = { ...byServer, role: 'admin' } as const
          await disableNode(world.context, by, 'node1')
          await enableNode(world.context, by, 'node1')
        },
      ],
      [
        'removed and added again under its name',
        'identity-unknown-key',
        async (world) => {
          await world.context.storage.db.deleteFrom('nodes').execute()
          await storeNode(world, { name: 'node1', state: 'ready' })
        },
      ],
      [
        'being reinstalled',
        'identity-other-boot',
        async (world, secret) => {
          await world.context.storage.db.updateTable('nodes').set({ reinstall: 'marked' }).execute()
          await boot(world, machineOf(secret), 'stage2')
        },
      ],
      [
        'reinstalled',
        'identity-other-boot',
        async (world, secret) => {
          await world.context.storage.db.updateTable('nodes').set({ reinstall: 'marked' }).execute()
          await boot(world, machineOf(secret), 'ready')
        },
      ],
      [
        'failed in its next boot',
        'identity-other-boot',
        async (world, secret) => {
          const { report: token } = await boot(world, machineOf(secret), 'stage2')
          await report(world, machineOf(secret), token, 'no disk', { final: true })
        },
      ],
      [
        'held',
        'identity-not-in-service',
        (world) => world.context.storage.db.updateTable('nodes').set({ state: 'held' }).execute(),
      ],
    ]
    for (const [what, why, happens] of ways) {
      const { world, secret, key } = await inService(openWorld)
      world.clock.advance(60)
      t.ok(await ask(world, key), `${what}: good before`)
      await happens(world, secret)
      await refused(t, ask(world, key), why, what)
    }
  })

  await t.test('a boot that ended before it was ready has no identity any more', async (t) => {
    const ways: [string, RefusalCause, (world: World, secret: string, token: string) => Promise<unknown>][] =
      [
        [
          'failed',
          'session-ended',
          (world, secret, token) => report(world, machineOf(secret), token, 'no disk', { final: true }),
        ],
        [
          'silent for too long, and not yet found to be',
          'session-expired',
          async (world) => world.clock.advance(7201),
        ],
        [
          'expired',
          'session-ended',
          async (world) => {
            world.clock.advance(7201)
            await expireSessions(world.context)
          },
        ],
      ]
    for (const [what, why, happens] of ways) {
      const { world, secret, report: token } = await atStage3(openWorld)
      const key = await nodeKey()
      await register(world, key, token)
      t.ok(await ask(world, key), `${what}: good before`)
      await happens(world, secret, token)
      await refused(t, ask(world, key), why, what)
    }
  })

  await t.test('a key of another node is refused, registered or renewed', async (t) => {
    const { world, key } = await inService(openWorld)
    const secret2 = await storeNode(world, { name: 'node2', uuid: null })
    const machine2 = machineOf(secret2, {
      host: 'node2',
      fields: { uuid: '2', mac: '52-54-00-00-00-02', secret: secret2 },
    })
    const learnt = await boot(world, machine2, 'stage3')
    await refused(t, register(world, key, learnt.report, { host: 'node2' }), 'identity-foreign-key')
    await refused(t, ask(world, key, vault, { host: 'node2' }), 'identity-foreign-key')
    const own = await nodeKey()
    await register(world, own, learnt.report, { host: 'node2' })
    t.ok(await ask(world, own, vault, { host: 'node2' }))
    t.ok(await ask(world, key), 'the first is as it was')
  })

  await t.test('a machine may keep its key over boots; its earlier proofs stay used', async (t) => {
    const { world, secret, key } = await inService(openWorld)
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    t.ok(await ask(world, key, vault, { proof }))
    world.clock.advance(60)
    const learnt = await boot(world, machineOf(secret), 'stage3')
    await refused(t, ask(world, key), 'identity-other-boot')
    await register(world, key, learnt.report)
    await refused(t, ask(world, key, vault, { proof }), 'identity-proof-used')
    t.ok(await ask(world, key))
  })

  await t.test('what an address alone proves, or a rule approved, gets none', async (t) => {
    const { world, key } = await inService(openWorld)
    const pinned = JSON.parse(
      (
        await world.context.storage.db
          .selectFrom('sessions')
          .select('pinned')
          .where('state', '=', 'ready')
          .executeTakeFirstOrThrow()
      ).pinned,
    )
    const changed = JSON.stringify({ ...pinned, evidence: ['address'] })
    await world.context.storage.db
      .updateTable('sessions')
      .set({ pinned: changed })
      .where('state', '=', 'ready')
      .execute()
    await refused(t, ask(world, key), 'identity-address-only')
    await storeProfile(world, { ...identityProfile, acceptAddressOnly: true })
    t.ok(await ask(world, key))
  })

  await t.test(
    'while a root is rotated, a node renews at either address, and the issuer stays',
    async (t) => {
      const { world, key } = await inService(openWorld)
      const [before] = world.context.entries()
      if (before === undefined) throw new Error('there is no entry')
      const after = { ...before, publicUrl: 'https://boot2.example.test:8443', root: 'f'.repeat(64) }
      const during = (entries: readonly (typeof before)[], issuer: string | undefined): World => {
        const { settings } = world.context
        const identity = { ...settings.identity, issuer }
        const changed = { ...settings, publicUrl: after.publicUrl, identity }
        return { ...world, context: { ...world.context, settings: changed, entries: () => entries } }
      }
      const issuerOf = async (at: World, url: string) =>
        decodeJwt((await ask(at, key, vault, { url })).token).iss
      const urls = [urlOf('identity'), urlOf('identity').replace('boot.', 'boot2.')] as const
      const kept = during([after, before], before.publicUrl)
      for (const url of urls) t.equal(await issuerOf(kept, url), 'https://boot.example.test:8443', url)
      t.equal(
        await issuerOf(during([after, before], undefined), urls[0]),
        'https://boot2.example.test:8443',
        'without identityIssuer it changes with the public URL',
      )
      const over = during([after], undefined)
      await refused(
        t,
        issuerOf(over, urls[0]),
        'identity-proof',
        'behind the cut-over the old address is none',
      )
      t.equal(await issuerOf(over, urls[1]), 'https://boot2.example.test:8443')
    },
  )

  await t.test('many at once with one proof: one is given a document', async (t) => {
    const { world, key } = await inService(openWorld)
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    const tries = Array.from({ length: 8 }, () => ask(world, key, vault, { proof }))
    const all = await Promise.allSettled(tries)
    t.equal(all.filter(({ status }) => status === 'fulfilled').length, 1)
    const why = all.flatMap((one) => (one.status === 'rejected' ? [(one.reason as Refusal).why] : []))
    t.same(new Set(why), new Set(['identity-proof-used']))
  })

  await t.test('the key rotates with overlap: the new one is published before it signs', async (t) => {
    const { world, key } = await inService(openWorld)
    const states = async () => (await showIdentity(world.context)).keys.map(({ state }) => state)
    const kidOf = (token: string) =>
      JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid
    const first = kidOf((await ask(world, key)).token)
    t.same(await states(), ['signs'])
    world.clock.advance(30 * 86_400 - 61)
    await tendIdentityKeys(world.context)
    t.same(await states(), ['signs'], 'not before its time')
    world.clock.advance(61)
    await Promise.all([tendIdentityKeys(world.context), tendIdentityKeys(world.context)])
    t.same(await states(), ['signs', 'next'], 'one, whoever makes it')
    t.equal(kidOf((await ask(world, key)).token), first)
    await t.rejects(rotateIdentityKey(world.context, byServer), { code: 'conflict' })
    world.clock.advance(86_400)
    const last = await ask(world, key)
    t.not(kidOf(last.token), first, 'a day later the new one signs')
    t.same(await states(), ['old', 'signs'])
    world.clock.advance(86_400 + 59)
    await tendIdentityKeys(world.context)
    t.same(await states(), ['old', 'signs'], 'kept until all it signed has ended')
    world.clock.advance(1)
    await tendIdentityKeys(world.context)
    t.same(await states(), ['signs'])
    await rotateIdentityKey(world.context, byServer, { compromised: true })
    t.same(await states(), ['signs'])
    const keys = createLocalJWKSet((await identityKeySet(world.context)) as { keys: JWK[] })
    await t.rejects(jwtVerify(last.token, keys, { currentDate: world.clock.now() }), {
      code: 'ERR_JWKS_NO_MATCHING_KEY',
    })
    const dump = await world.dump()
    t.notMatch(dump, 'PRIVATE KEY')
    t.equal(dump.match(/"d":/g), null, 'no private key is in the database as it is')
    t.ok((await world.kinds()).includes('identity-keys-withdrawn'))
  })
})
