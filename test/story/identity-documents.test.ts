import { createPublicKey } from 'node:crypto'
import { createLocalJWKSet, type JWK, jwtVerify, SignJWT } from 'jose'
import t from 'tap'
import { extensionRing } from '../../src/boot/extension-keys.ts'
import { identityKeySet } from '../../src/boot/identity-keys.ts'
import { openSigner } from '../../src/boot/key-ring.ts'
import { ask, inService, urlOf, vault } from '../helpers/identity.ts'
import { proofOf } from '../helpers/node-key.ts'
import { forEachDatabase, testSettings } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('by what is published, a relying party takes nothing but a document', async (t) => {
    const { world, key } = await inService(openWorld)
    const at = world.clock.now()
    const published = (await identityKeySet(world.context)) as { keys: JWK[] }
    const [own] = published.keys
    if (own === undefined) throw new Error('no key is published')
    const { token } = await ask(world, key)
    const [head = '', body = '', signature = ''] = token.split('.')
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString())
    const text = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const { kid = '' } = own
    const hmac = (secret: string) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid, typ: 'JWT' }).sign(Buffer.from(secret))
    const byNode = (header: object) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'ES256', typ: 'JWT', ...header }).sign(key.privateKey)
    const extension = await openSigner(extensionRing, world.context)
    const pem = createPublicKey({ key: own, format: 'jwk' }).export({ type: 'spki', format: 'pem' })
    const take = (document: string, audience = vault) =>
      jwtVerify(document, createLocalJWKSet(published), {
        ...{ audience, issuer: testSettings.publicUrl, currentDate: at, typ: 'JWT' },
      })
    t.ok(await take(token))
    const rows: [string, string, string?][] = [
      ['alg none', `${text({ alg: 'none', kid })}.${body}.`],
      ['alg none with its signature', `${text({ alg: 'none', kid })}.${body}.${signature}`],
      ['HMAC by the key as it is published', await hmac(JSON.stringify(own))],
      ['HMAC by the key in PEM', await hmac(String(pem))],
      ['HMAC by its coordinate', await hmac(own.x ?? '')],
      ['signed by the node itself, under our key', await byNode({ kid })],
      ['signed by the node itself, with its key', await byNode({ jwk: key.jwk })],
      ['signed by the node itself, under its own', await byNode({ kid: key.thumbprint })],
      [
        'signed by the key of extensions',
        await new SignJWT(claims)
          .setProtectedHeader({ alg: 'ES256', kid: extension.kid, typ: 'JWT' })
          .sign(extension.key),
      ],
      ['a proof', await proofOf(key, { url: urlOf('identity'), at, claims: { aud: vault } })],
      ['another node', `${head}.${text({ ...claims, sub: 'node:node2' })}.${signature}`],
      ['a later end', `${head}.${text({ ...claims, exp: claims.exp + 1 })}.${signature}`],
      ['for somebody else', token, 'cluster'],
    ]
    for (const [what, document, audience] of rows)
      await t.rejects(take(document, audience), { code: /^ERR_J/ }, what)
    t.match(own, { alg: 'ES256', use: 'sig', kty: 'EC', crv: 'P-256' }, 'what a key is for is said with it')
  })
})
