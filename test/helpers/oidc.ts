import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import Provider, { type Configuration } from 'oidc-provider'
import type { Test } from 'tap'

/** Accounts of the real provider: their claims by name. */
export type Accounts = Readonly<Record<string, Readonly<Record<string, unknown>>>>

export const clientId = 'pawl'
export const clientSecret = 'a secret that only the two know'

/** Starts npm's oidc-provider, with its own pages for signing in; any password will do. */
export async function startProvider(
  t: Test,
  redirectUri: string,
  accounts: Accounts,
  more: Configuration = {},
): Promise<string> {
  const server = createServer()
  const issuer = await listen(t, server)
  const provider = new Provider(issuer, {
    clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri] }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, ...accounts[id] }),
    }),
    cookies: { keys: ['test'] },
    ...more,
  })
  provider.on('server_error', () => {})
  server.on('request', provider.callback())
  return issuer
}

/** What a hostile provider does differently. */
export interface Hostile {
  /** Changes the claims of the next ID token. */
  claims?: (claims: Record<string, unknown>) => Record<string, unknown>
  /** Makes the ID token itself from the claims. */
  sign?: (claims: Record<string, unknown>) => Promise<string> | string
  /** Answers at the token endpoint instead. */
  token?: (body: URLSearchParams) => { status: number; body: string } | 'hang' | 'drip'
  /** Answers at discovery instead. */
  discovery?: (document: Record<string, unknown>) => Record<string, unknown> | 'hang'
  userinfo?: Record<string, unknown>
  /** The nonce that the authorization endpoint was given, set by the test from the URL. */
  nonce?: string
}

/** A provider that the test plays itself, over HTTPS where it is given a certificate: its answers are what the test says. The authorization page is not asked. */
export async function startHostileProvider(
  t: Test,
  behaviour: Hostile,
  tls?: Readonly<Record<string, unknown>>,
): Promise<string> {
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' }
  const server = tls === undefined ? createServer() : (createSecureServer(tls) as unknown as Server)
  const issuer = await listen(t, server, tls === undefined ? 'http' : 'https')
  server.on('request', (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const answer = (body: unknown, status = 200): void =>
        void response
          .writeHead(status, { 'content-type': 'application/json' })
          .end(typeof body === 'string' ? body : JSON.stringify(body))
      const path = request.url ?? ''
      if (path.startsWith('/.well-known/')) {
        const document = {
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          userinfo_endpoint: `${issuer}/userinfo`,
          jwks_uri: `${issuer}/jwks`,
          response_types_supported: ['code'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['RS256', 'HS256', 'none'],
        }
        const said = behaviour.discovery?.(document) ?? document
        if (said !== 'hang') answer(said)
      } else if (path === '/jwks') answer({ keys: [jwk] })
      else if (path === '/userinfo') answer(behaviour.userinfo ?? {})
      else if (path === '/token')
        void token(new URLSearchParams(Buffer.concat(chunks).toString('utf8')), answer, response)
      else answer({}, 404)
    })
  })

  async function token(
    body: URLSearchParams,
    answer: (body: unknown, status?: number) => void,
    response: ServerResponse,
  ): Promise<void> {
    const instead = behaviour.token?.(body)
    if (instead === 'hang') return
    if (instead === 'drip') {
      response.writeHead(200, { 'content-type': 'application/json' })
      const timer = setInterval(() => response.write(' '), 50)
      t.teardown(() => clearInterval(timer))
      return
    }
    if (instead !== undefined) return answer(instead.body, instead.status)
    const now = Math.floor(Date.now() / 1000)
    const usual = {
      iss: issuer,
      sub: 'jane-1',
      aud: clientId,
      iat: now,
      exp: now + 300,
      nonce: behaviour.nonce,
      email: 'jane@example.com',
      email_verified: true,
      groups: ['ops'],
    }
    const claims = behaviour.claims?.(usual) ?? usual
    const signed =
      (await behaviour.sign?.(claims)) ??
      (await new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: 'k1' }).sign(privateKey))
    answer({ access_token: 'access', token_type: 'Bearer', id_token: signed })
  }

  return issuer
}

async function listen(t: Test, server: Server, scheme = 'http'): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`
}
