import { generateKeyPairSync } from 'node:crypto'
import { createLocalJWKSet, exportJWK, type JWK, jwtVerify, SignJWT, UnsecuredJWT } from 'jose'
import t, { type Test } from 'tap'
import { issueIdentity } from '../../src/boot/identity.ts'
import { registerKey } from '../../src/boot/identity-key.ts'
import { identityKeySet } from '../../src/boot/identity-keys.ts'
import type { ProofFault } from '../../src/domain/identity.ts'
import { Refusal, type RefusalCause } from '../../src/domain/refusal.ts'
import { rotateIdentityKey, showIdentity, tendIdentityKeys } from '../../src/fleet/identity.ts'
import { disableNode } from '../../src/fleet/nodes.ts'
import { byServer } from '../../src/fleet/operators.ts'
import { demoProfile, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { nodeKey, type ProofWish, proofOf, type TestKey } from '../helpers/node-key.ts'
import { forEachDatabase, testSettings, type World } from '../helpers/world.ts'

const vault = 'https://vault.example.test'
const profile = { ...demoProfile, identity: { audiences: [vault, 'cluster'], labels: ['rack'] } }
const urlOf = (path: string, host = 'node1'): string => `${testSettings.publicUrl}/v1/boot/${host}/${path}`
const base = { host: 'node1', source: '192.0.2.10' }

/** Registers a key as the agent does; `wish` is what is wrong with it. */
async function register(
  world: World,
  key: TestKey,
  token: string | undefined,
  wish: Partial<ProofWish> & { host?: string } = {},
): Promise<Record<string, unknown>> {
  const { host = 'node1', ...more } = wish
  const url = urlOf('identity/key', host)
  const proof = await proofOf(key, {
    url,
    at: world.clock.now(),
    ...(token === undefined ? {} : { token }),
    ...more,
  })
  return JSON.parse(
    await registerKey(world.context, { ...base, host, request: 'identity/key', token, proof }),
  )
}

/** Asks for a document. */
async function ask(
  world: World,
  key: TestKey,
  audience: string | undefined = vault,
  wish: Partial<ProofWish> & { host?: string; proof?: string | undefined } = {},
): Promise<{ token: string; audience: string; expiresAt: string; renewInSeconds: number }> {
  const { host = 'node1', ...more } = wish
  const made = await proofOf(key, { url: urlOf('identity', host), at: world.clock.now(), ...more })
  const proof = 'proof' in wish ? wish.proof : made
  return JSON.parse(
    await issueIdentity(world.context, { ...base, host, request: 'identity', audience, proof }),
  )
}

/** Refused for this cause, and looking like every other refusal from outside. */
async function refused(
  t: Test,
  work: Promise<unknown>,
  why: RefusalCause,
  what: string = why,
): Promise<Refusal> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!(error instanceof Refusal)) {
    t.fail(`${what} was not refused`, { error })
    return new Refusal('malformed')
  }
  t.equal(error.why, why, what)
  t.equal(error.message, 'refused')
  return error
}

await forEachDatabase(t, async (t, openWorld) => {
  /** A node that came to stage 3, with its report token. */
  async function atStage3(): Promise<{ world: World; secret: string; report: string; session: string }> {
    const world = await openWorld()
    const secret = await storeDemoFleet(world)
    await storeProfile(world, profile)
    await world.context.storage.db.updateTable('nodes').set({ labels: '{"rack":"r7","owner":"x"}' }).execute()
    const learnt = await boot(world, machineOf(secret), 'stage3')
    return { world, secret, ...learnt }
  }

  /** A node in service, with its key. */
  async function inService() {
    const { world, secret } = await atStage3()
    world.clock.advance(60)
    const learnt = await boot(world, machineOf(secret), 'join')
    const key = await nodeKey()
    await register(world, key, learnt.report)
    await report(world, machineOf(secret), learnt.report, 'success')
    return { world, secret, key, learnt }
  }

  await t.test('a proof that is not good gets nothing, and the cause is on record', async (t) => {
    const { world, key } = await inService()
    const at = world.clock.now()
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const rsaJwk = (await exportJWK(rsa.publicKey)) as JWK
    const other = await nodeKey()
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const good = {
      htm: 'POST',
      htu: urlOf('identity'),
      iat: Math.floor(at.getTime() / 1000),
      jti: 'a'.repeat(22),
    }
    const header = { typ: 'dpop+jwt', jwk: key.jwk }
    const hmac = (secret: string) =>
      new SignJWT(good).setProtectedHeader({ ...header, alg: 'HS256' }).sign(Buffer.from(secret))
    const [head, , signature] = (await proofOf(key, { url: urlOf('identity'), at })).split('.')
    const seconds = (n: number) => new Date(at.getTime() + n * 1000)
    const rows: [string, ProofFault, string | undefined][] = [
      ['none at all', 'missing', undefined],
      ['an empty one', 'missing', ''],
      ['no JWS', 'malformed', 'hello'],
      ['five parts', 'malformed', 'a.b.c.d.e'],
      ['larger than any', 'too-long', `${'e'.repeat(3000)}.e.e`],
      [
        'a huge JWK',
        'too-long',
        await proofOf(key, {
          url: urlOf('identity'),
          at,
          header: { jwk: { ...key.jwk, x5c: ['A'.repeat(4000)] } },
        }),
      ],
      [
        'another type',
        'wrong-type',
        await proofOf(key, { url: urlOf('identity'), at, header: { typ: 'JWT' } }),
      ],
      [
        'alg none',
        'wrong-algorithm',
        new UnsecuredJWT(good)
          .encode()
          .replace(/^[^.]*/, Buffer.from(JSON.stringify({ ...header, alg: 'none' })).toString('base64url')),
      ],
      ['HMAC by the public key', 'wrong-algorithm', await hmac(JSON.stringify(key.jwk))],
      [
        'RS256',
        'wrong-algorithm',
        await new SignJWT(good)
          .setProtectedHeader({ ...header, jwk: rsaJwk, alg: 'RS256' })
          .sign(rsa.privateKey),
      ],
      [
        'ES384',
        'wrong-algorithm',
        await new SignJWT(good).setProtectedHeader({ ...header, alg: 'ES384' }).sign(p384.privateKey),
      ],
      [
        'an RSA key under ES256',
        'wrong-key',
        await proofOf(key, { url: urlOf('identity'), at, header: { jwk: rsaJwk } }),
      ],
      [
        'a key of the other algorithm',
        'wrong-key',
        await proofOf(key, { url: urlOf('identity'), at, header: { jwk: (await nodeKey('EdDSA')).jwk } }),
      ],
      [
        'a private key',
        'wrong-key',
        await proofOf(key, { url: urlOf('identity'), at, header: { jwk: { ...key.jwk, d: key.jwk.x } } }),
      ],
      [
        'a point on no curve',
        'wrong-key',
        await proofOf(key, { url: urlOf('identity'), at, header: { jwk: { ...key.jwk, y: key.jwk.x } } }),
      ],
      ['no key', 'wrong-key', await proofOf(key, { url: urlOf('identity'), at, header: { jwk: undefined } })],
      [
        'signed by another key than it names',
        'bad-signature',
        await proofOf(key, { url: urlOf('identity'), at, header: { jwk: other.jwk } }),
      ],
      [
        'a changed payload',
        'bad-signature',
        [head, Buffer.from(JSON.stringify(good)).toString('base64url'), signature].join('.'),
      ],
      ['for GET', 'wrong-method', await proofOf(key, { url: urlOf('identity'), at, claims: { htm: 'GET' } })],
      ['for the other route', 'wrong-url', await proofOf(key, { url: urlOf('identity/key'), at })],
      [
        'for another server',
        'wrong-url',
        await proofOf(key, { url: 'https://evil.example/v1/boot/node1/identity', at }),
      ],
      ['for another node', 'wrong-url', await proofOf(key, { url: urlOf('identity', 'node2'), at })],
      [
        'for plain HTTP',
        'wrong-url',
        await proofOf(key, { url: urlOf('identity').replace('https', 'http'), at }),
      ],
      [
        'without a number',
        'no-number',
        await proofOf(key, { url: urlOf('identity'), at, claims: { jti: undefined } }),
      ],
      [
        'with a short number',
        'no-number',
        await proofOf(key, { url: urlOf('identity'), at, claims: { jti: 'a' } }),
      ],
      [
        'with a huge number',
        'no-number',
        await proofOf(key, { url: urlOf('identity'), at, claims: { jti: 'a'.repeat(129) } }),
      ],
      [
        'without a time',
        'no-time',
        await proofOf(key, { url: urlOf('identity'), at, claims: { iat: undefined } }),
      ],
      [
        'with a time as text',
        'no-time',
        await proofOf(key, { url: urlOf('identity'), at, claims: { iat: '1' } }),
      ],
      ['121 s old', 'too-old', await proofOf(key, { url: urlOf('identity'), at: seconds(-121) })],
      [
        '61 s in the future',
        'in-the-future',
        await proofOf(key, { url: urlOf('identity'), at: seconds(61) }),
      ],
    ]
    for (const [what, fault, proof] of rows) {
      const { subject } = await refused(t, ask(world, key, vault, { proof }), 'identity-proof', what)
      t.equal(subject.detail?.fault, fault, what)
    }
    t.ok(await ask(world, key, vault, { at: seconds(-120) }), '120 s old is good')
    t.ok(await ask(world, key, vault, { at: seconds(60) }), '60 s ahead is good')
    t.ok(
      await ask(world, key, vault, { url: `${urlOf('identity')}?audience=x#y` }),
      'query and fragment do not count',
    )
    const events = await world.events({ node: 'node1' })
    const told = events.filter(({ detail }) => detail.cause === 'identity-proof')
    t.ok(told.length >= 10, 'listed')
    t.ok(told.length <= rows.length, 'and bounded')
  })

  await t.test('a key is registered once in a boot, by the boot, with a proof for its token', async (t) => {
    const { world, secret, report: token } = await atStage3()
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
    await storeProfile(world, profile)
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
    const { world, report: token, session } = await atStage3()
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
    await storeProfile(world, { ...profile, identity: { audiences: ['cluster'], lifetimeSeconds: 300 } })
    await refused(t, ask(world, key, vault), 'identity-audience', 'an audience that was taken away')
    t.match(await ask(world, key, 'cluster'), { renewInSeconds: 150 })
    await storeProfile(world, demoProfile)
    await refused(t, ask(world, key, 'cluster'), 'no-identity')
  })

  await t.test('it is renewed while the node is in service, and events stay few', async (t) => {
    const { world, key } = await inService()
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
    const proofs = await world.context.storage.db.selectFrom('identity_proofs').selectAll().execute()
    t.ok(proofs.length <= 2, 'old proofs are forgotten')
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
        'held',
        'identity-not-in-service',
        (world) => world.context.storage.db.updateTable('nodes').set({ state: 'held' }).execute(),
      ],
    ]
    for (const [what, why, happens] of ways) {
      const { world, secret, key } = await inService()
      world.clock.advance(60)
      t.ok(await ask(world, key), `${what}: good before`)
      await happens(world, secret)
      await refused(t, ask(world, key), why, what)
    }
  })

  await t.test('a key of another node is refused, registered or renewed', async (t) => {
    const { world, key } = await inService()
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
    const { world, secret, key } = await inService()
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
    const { world, key } = await inService()
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
    await storeProfile(world, { ...profile, acceptAddressOnly: true })
    t.ok(await ask(world, key))
  })

  await t.test('many at once with one proof: one is given a document', async (t) => {
    const { world, key } = await inService()
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    const tries = Array.from({ length: 8 }, () => ask(world, key, vault, { proof }))
    const all = await Promise.allSettled(tries)
    t.equal(all.filter(({ status }) => status === 'fulfilled').length, 1)
    const why = all.flatMap((one) => (one.status === 'rejected' ? [(one.reason as Refusal).why] : []))
    t.same(new Set(why), new Set(['identity-proof-used']))
  })

  await t.test('the key rotates with overlap: the new one is published before it signs', async (t) => {
    const { world, key } = await inService()
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
