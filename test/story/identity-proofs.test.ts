import { generateKeyPairSync } from 'node:crypto'
import { CompactSign, exportJWK, type JWK, SignJWT, UnsecuredJWT } from 'jose'
import t, { type Test } from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import type { ProofFault } from '../../src/domain/identity.ts'
import type { Refusal } from '../../src/domain/refusal.ts'
import { tendIdentityKeys } from '../../src/fleet/identity.ts'
import { forEachPlace, temporaryFolder } from '../backup/helpers.ts'
import { ask, inService, refused, urlOf, vault } from '../helpers/identity.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { nodeKey, type ProofWish, proofOf, type TestKey } from '../helpers/node-key.ts'
import { forEachDatabase, openAt, type World } from '../helpers/world.ts'

/** Another text that decodes to the same: a bit of the last character that stands for nothing is set. */
function spelledOtherwise(text: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const other = `${text.slice(0, -1)}${alphabet[alphabet.indexOf(text.slice(-1)) ^ 1]}`
  if (!Buffer.from(text, 'base64url').equals(Buffer.from(other, 'base64url'))) throw new Error('not the same')
  return other
}

/** The parts of a proof whose first two have spare bits: a claim more makes them so long. */
async function partsOf(key: TestKey, url: string, at: Date): Promise<[string, string, string]> {
  for (let pad = ''; ; pad += 'x') {
    const parts = (await proofOf(key, { url, at, header: { kid: pad }, claims: { pad } })).split('.')
    if (parts.slice(0, 2).every((part) => part.length % 4 !== 0)) return parts as [string, string, string]
  }
}

const p256 = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn
const wide = (value: bigint): string =>
  Buffer.from(value.toString(16).padStart(64, '0'), 'hex').toString('base64url')

function power(base: bigint, exponent: bigint): bigint {
  let [result, square] = [1n, base % p256]
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % p256
    square = (square * square) % p256
  }
  return result
}

/** The point of P-256 whose x is 0, with x written as the field's order: on the curve only for who reduces it. */
function unreduced(): { x: string; y: string } {
  const b = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn
  const y = power(b, (p256 + 1n) / 4n)
  if ((y * y) % p256 !== b) throw new Error('no root')
  return { x: wide(p256), y: wide(y) }
}

/** A signature by nobody: under the point that is the curve's zero, the base point and 1 sign everything. */
function signedByNobody(header: object, claims: object): string {
  const base = Buffer.alloc(32, 0x66)
  base[0] = 0x58
  const one = Buffer.alloc(32)
  one[0] = 1
  const text = [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  return `${text}.${Buffer.concat([base, one]).toString('base64url')}`
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a proof that is not good gets nothing, and the cause is on record', async (t) => {
    const { world, key } = await inService(openWorld)
    const at = world.clock.now()
    const url = urlOf('identity')
    const made = (wish: Partial<ProofWish> = {}, by = key) => proofOf(by, { url, at, ...wish })
    const seconds = (n: number) => new Date(at.getTime() + n * 1000)
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const rsaJwk = (await exportJWK(rsa.publicKey)) as JWK
    const other = await nodeKey()
    const edwards = await nodeKey('EdDSA')
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const good = { htm: 'POST', htu: url, iat: Math.floor(at.getTime() / 1000), jti: 'a'.repeat(22) }
    const header = { typ: 'dpop+jwt', jwk: key.jwk }
    const unsigned = (alg: string) =>
      new UnsecuredJWT(good)
        .encode()
        .replace(/^[^.]*/, Buffer.from(JSON.stringify({ ...header, alg })).toString('base64url'))
    const hmac = (secret: string | Buffer) =>
      new SignJWT(good).setProtectedHeader({ ...header, alg: 'HS256' }).sign(Buffer.from(secret))
    const signedAs = (alg: string, by: typeof p384, jwk: JWK = key.jwk) =>
      new SignJWT(good).setProtectedHeader({ ...header, jwk, alg }).sign(by.privateKey)
    const [head, , signature] = (await made()).split('.')
    const payload = (bytes: string | Buffer) =>
      new CompactSign(Buffer.from(bytes as string))
        .setProtectedHeader({ ...header, alg: 'ES256' })
        .sign(key.privateKey)
    const [first, second, third] = await partsOf(key, url, at)
    const zero = Buffer.alloc(32)
    zero[0] = 1
    const nobody = { kty: 'OKP', crv: 'Ed25519', x: zero.toString('base64url') }
    const rows: [string, ProofFault, string | undefined][] = [
      ['none at all', 'missing', undefined],
      ['an empty one', 'missing', ''],
      ['no JWS', 'malformed', 'hello'],
      ['five parts', 'malformed', 'a.b.c.d.e'],
      ['two of them', 'malformed', `${await made()},${await made()}`],
      ['a header in another spelling', 'malformed', [spelledOtherwise(first), second, third].join('.')],
      ['a payload in another spelling', 'malformed', [first, spelledOtherwise(second), third].join('.')],
      ['a signature in another spelling', 'malformed', [first, second, spelledOtherwise(third)].join('.')],
      ['a padded signature', 'malformed', `${await made()}==`],
      ['a signature in the other alphabet', 'malformed', `${await made()}`.replace(/.$/, '+')],
      ['a space in the middle', 'malformed', [first, ` ${second}`, third].join('.')],
      ['a line behind it', 'malformed', `${await made()}\n`],
      ['larger than any', 'too-long', `${'e'.repeat(3000)}.e.e`],
      ['a huge JWK', 'too-long', await made({ header: { jwk: { ...key.jwk, x5c: ['A'.repeat(4000)] } } })],
      [
        'an RSA key of 16384 bits',
        'too-long',
        await made({ header: { jwk: { ...rsaJwk, n: Buffer.alloc(2048, 0xff).toString('base64url') } } }),
      ],
      ['another type', 'wrong-type', await made({ header: { typ: 'JWT' } })],
      ['its type in capitals', 'wrong-type', await made({ header: { typ: 'DPOP+JWT' } })],
      ['a document as a proof', 'wrong-type', (await ask(world, key)).token],
      [
        'a header that must be understood',
        'wrong-type',
        await made({ header: { crit: ['b64'], b64: true } }),
      ],
      ['alg none', 'wrong-algorithm', unsigned('none')],
      ['alg None', 'wrong-algorithm', unsigned('None')],
      ['no alg', 'wrong-algorithm', unsigned('')],
      ['alg __proto__', 'wrong-algorithm', unsigned('__proto__')],
      ['HMAC by the public key', 'wrong-algorithm', await hmac(JSON.stringify(key.jwk))],
      ['HMAC by its coordinate', 'wrong-algorithm', await hmac(Buffer.from(key.jwk.x ?? '', 'base64url'))],
      ['RS256', 'wrong-algorithm', await signedAs('RS256', rsa, rsaJwk)],
      ['ES384', 'wrong-algorithm', await signedAs('ES384', p384)],
      ['an RSA key under ES256', 'wrong-key', await made({ header: { jwk: rsaJwk } })],
      [
        'a P-384 key under ES256',
        'wrong-key',
        await made({ header: { jwk: await exportJWK(p384.publicKey) } }),
      ],
      ['a key of the other algorithm', 'wrong-key', await made({ header: { jwk: edwards.jwk } })],
      ['a symmetric key', 'wrong-key', await made({ header: { jwk: { kty: 'oct', k: key.jwk.x } } })],
      ['a private key', 'wrong-key', await made({ header: { jwk: { ...key.jwk, d: key.jwk.x } } })],
      ['a point on no curve', 'wrong-key', await made({ header: { jwk: { ...key.jwk, y: key.jwk.x } } })],
      [
        'the point at infinity',
        'wrong-key',
        await made({ header: { jwk: { ...key.jwk, x: wide(0n), y: wide(0n) } } }),
      ],
      [
        'a coordinate beyond the field',
        'wrong-key',
        await made({ header: { jwk: { ...key.jwk, ...unreduced() } } }),
      ],
      [
        'a coordinate in another spelling',
        'wrong-key',
        await made({ header: { jwk: { ...key.jwk, x: spelledOtherwise(key.jwk.x ?? '') } } }),
      ],
      [
        'a coordinate with a zero before it',
        'wrong-key',
        await made({ header: { jwk: { ...key.jwk, x: `AA${key.jwk.x}` } } }),
      ],
      [
        'an Ed25519 key in another spelling',
        'wrong-key',
        await made(
          { header: { jwk: { ...edwards.jwk, x: spelledOtherwise(edwards.jwk.x ?? '') } } },
          edwards,
        ),
      ],
      [
        'a key that anybody can sign for',
        'wrong-key',
        signedByNobody({ typ: 'dpop+jwt', alg: 'EdDSA', jwk: nobody }, good),
      ],
      ['no key', 'wrong-key', await made({ header: { jwk: undefined } })],
      ['signed by another key than it names', 'bad-signature', await made({ header: { jwk: other.jwk } })],
      [
        'a changed payload',
        'bad-signature',
        [head, Buffer.from(JSON.stringify(good)).toString('base64url'), signature].join('.'),
      ],
      ['a payload that is null', 'malformed', await payload('null')],
      ['a payload that is a list', 'malformed', await payload('[]')],
      ['a payload that is no JSON', 'malformed', await payload('{')],
      ['a payload that is no UTF-8', 'malformed', await payload(Buffer.from([0x22, 0xff, 0x22]))],
      ['for GET', 'wrong-method', await made({ claims: { htm: 'GET' } })],
      ['for a method in small letters', 'wrong-method', await made({ claims: { htm: 'post' } })],
      ['for the other route', 'wrong-url', await made({ url: urlOf('identity/key') })],
      ['for another server', 'wrong-url', await made({ url: 'https://evil.example/v1/boot/node1/identity' })],
      ['for another node', 'wrong-url', await made({ url: urlOf('identity', 'node2') })],
      ['for plain HTTP', 'wrong-url', await made({ url: url.replace('https', 'http') })],
      ['for another port', 'wrong-url', await made({ url: url.replace(':8443', '') })],
      ['with a name in its URL', 'wrong-url', await made({ url: url.replace('://', '://boot@') })],
      ['without a number', 'no-number', await made({ claims: { jti: undefined } })],
      ['with a number that is no text', 'no-number', await made({ claims: { jti: ['a'.repeat(22)] } })],
      ['with a number beyond ASCII', 'no-number', await made({ claims: { jti: 'é'.repeat(22) } })],
      ['with a short number', 'no-number', await made({ claims: { jti: 'a' } })],
      ['with a huge number', 'no-number', await made({ claims: { jti: 'a'.repeat(129) } })],
      ['without a time', 'no-time', await made({ claims: { iat: undefined } })],
      ['with a time as text', 'no-time', await made({ claims: { iat: '1' } })],
      ['with half a second', 'no-time', await made({ claims: { iat: good.iat + 0.5 } })],
      ['of the end of time', 'in-the-future', await made({ claims: { iat: 1e300 } })],
      ['of before time', 'too-old', await made({ claims: { iat: -1 } })],
      ['121 s old', 'too-old', await made({ at: seconds(-121) })],
      ['61 s in the future', 'in-the-future', await made({ at: seconds(61) })],
    ]
    for (const [what, fault, proof] of rows) {
      const { subject } = await refused(t, ask(world, key, vault, { proof }), 'identity-proof', what)
      t.equal(subject.detail?.fault, fault, what)
    }
    t.ok(await ask(world, key, vault, { at: seconds(-120) }), '120 s old is good')
    t.ok(await ask(world, key, vault, { at: seconds(60) }), '60 s ahead is good')
    t.ok(await ask(world, key, vault, { url: `${url}?audience=x#y` }), 'query and fragment do not count')
    const events = await world.events({ node: 'node1' })
    const told = events.filter(({ detail }) => detail.cause === 'identity-proof')
    t.ok(told.length >= 10, 'listed')
    t.ok(told.length <= rows.length, 'and bounded')
  })

  await t.test(
    'at the edges of its time a proof is taken to the second, by the clock of the server',
    async (t) => {
      const { world, key } = await inService(openWorld)
      const rows: [number, ProofFault | undefined][] = [
        [0, undefined],
        [120, undefined],
        [120.999, undefined],
        [121, 'too-old'],
        [3600, 'too-old'],
        [-60, undefined],
        [-60.001, 'in-the-future'],
        [-3600, 'in-the-future'],
      ]
      for (const [age, fault] of rows) {
        const iat = Math.ceil(world.clock.now().getTime() / 1000 + 7200)
        world.clock.advance(iat + age - world.clock.now().getTime() / 1000)
        const asked = ask(world, key, vault, { claims: { iat } })
        if (fault === undefined) t.ok(await asked, `${age} s old`)
        else t.equal((await refused(t, asked, 'identity-proof', `${age} s old`)).subject.detail?.fault, fault)
      }
    },
  )

  await t.test('a proof that got a document for one audience gets none for another', async (t) => {
    const { world, key } = await inService(openWorld)
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    t.ok(await ask(world, key, vault, { proof }))
    await refused(t, ask(world, key, 'cluster', { proof }), 'identity-proof-used')
  })

  await t.test(
    'who comes with a key that he has just made waits for no lock and costs no signer',
    async (t) => {
      const { world, key } = await inService(openWorld)
      const dear = (what: string) => () => {
        throw new Error(`a stranger reached ${what}`)
      }
      const { storage, sealer } = world.context
      const guarded: BootContext = {
        ...world.context,
        storage: { ...storage, transaction: dear('a transaction') },
        sealer: { ...sealer, open: dear('the key that signs') },
      }
      const at = (context: BootContext): World => ({ ...world, context })
      await refused(t, ask(at(guarded), await nodeKey()), 'identity-unknown-key')
      await refused(t, ask(at(guarded), await nodeKey(), vault, { host: 'nobody' }), 'unknown-node')
      await t.rejects(ask(at(guarded), key), /a stranger reached/, 'its own node gets as far as that')
    },
  )

  await t.test('used proofs of keys that ask no more are forgotten, a minute behind their end', async (t) => {
    const { world, key, secret } = await inService(openWorld)
    const proofs = async () =>
      (await world.context.storage.db.selectFrom('identity_proofs').selectAll().execute()).length
    await tendIdentityKeys(world.context)
    const before = await proofs()
    t.ok(before > 0)
    await boot(world, machineOf(secret), 'stage1') // and it never asks again
    world.clock.advance(121 + 60)
    await tendIdentityKeys(world.context)
    t.equal(await proofs(), before, 'a replica whose clock is a minute behind may still be asked')
    world.clock.advance(1)
    await tendIdentityKeys(world.context)
    t.equal(await proofs(), 0)
    await refused(t, ask(world, key), 'identity-other-boot')
  })
})

await forEachPlace(t, async (t, place) => {
  /** A node in service, on a database that more than one server opens. */
  async function shared(t: Test): Promise<{ database: string; world: World; key: TestKey }> {
    const database = await place(temporaryFolder(t))
    const { world, key } = await inService((options = {}) => openAt(t, database, options))
    return { database, world, key }
  }

  /** Another server: its clock is so many seconds ahead of the first one's. */
  async function another(t: Test, { database, world }: { database: string; world: World }, ahead = 0) {
    const opened = await openAt(t, database, {})
    const difference = world.clock.now().getTime() - opened.clock.now().getTime()
    opened.clock.advance(difference / 1000 + ahead)
    return opened
  }

  await t.test('a proof that one replica took is refused by the others', async (t) => {
    const one = await shared(t)
    const { world, key } = one
    const two = await another(t, one)
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    t.ok(await ask(world, key, vault, { proof }))
    await refused(t, ask(two, key, vault, { proof }), 'identity-proof-used')
    const next = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    const all = await Promise.allSettled(
      [world, two, world, two].map((here) => ask(here, key, vault, { proof: next })),
    )
    t.equal(all.filter(({ status }) => status === 'fulfilled').length, 1, 'of many at once, one')
    const why = all.flatMap((each) => (each.status === 'rejected' ? [(each.reason as Refusal).why] : []))
    t.same(new Set(why), new Set(['identity-proof-used']))
  })

  await t.test('a replica with a clock ahead forgets no proof that another would take', async (t) => {
    const one = await shared(t)
    const { world, key } = one
    const ahead = await another(t, one, 60)
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    t.ok(await ask(world, key, vault, { proof }))
    for (const here of [world, ahead]) here.clock.advance(120)
    await refused(t, ask(ahead, key, vault, { proof }), 'identity-proof', 'there it is too old')
    await tendIdentityKeys(ahead.context)
    await refused(t, ask(world, key, vault, { proof }), 'identity-proof-used')
  })

  await t.test('a proof that was used before a restart is refused after it', async (t) => {
    const one = await shared(t)
    const { world, key } = one
    const proof = await proofOf(key, { url: urlOf('identity'), at: world.clock.now() })
    const document = await ask(world, key, vault, { proof })
    await world.context.storage.close()
    const again = await another(t, one)
    await refused(t, ask(again, key, vault, { proof }), 'identity-proof-used')
    t.not((await ask(again, key)).token, document.token, 'another one is good')
  })
})
