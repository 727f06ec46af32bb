import * as oidc from 'openid-client'
import type { Clock } from '../../domain/clock.ts'
import { type Claims, claimAt } from '../../domain/sign-in.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import { boundedFetch, isSafeUrl, unreachable } from './bounded-fetch.ts'

/** How the provider is reached, and who we are to it. */
export interface ProviderSettings {
  readonly issuer: string
  readonly clientId: string
  /** Undefined for a public client: PKCE alone. */
  readonly clientSecret: string | undefined
  readonly scopes: readonly string[]
  /** Asked of the userinfo endpoint where the ID token does not have it. */
  readonly groupsClaim: string
  readonly nameClaim: string
  readonly ca: string | undefined
  /** For each request to it, whole; 5 s. */
  readonly timeoutMilliseconds?: number
}

/** A sign-in that began: where the browser goes, and what must come back from there. */
export interface Begun {
  readonly url: string
  readonly state: string
  readonly nonce: string
  readonly verifier: string
}

/** The OpenID Connect provider. */
export interface Provider {
  /** Where to send a browser to sign in. Throws `unreachable`. */
  begin(redirectUri: string): Promise<Begun>
  /** What the provider says of whoever came back. Throws `unreachable`, and `sign-in-refused` with the reason as its `internal`. */
  finish(callback: URL, expected: Omit<Begun, 'url'>): Promise<Claims>
}

const usualTimeoutMilliseconds = 5000
const maxBytes = 512 * 1024
const discoveredForMilliseconds = 3600_000
const failedForMilliseconds = 5000
const maxAtOnce = 20

/**
 * Opens a provider; nothing is asked before someone signs in. Authorization code with PKCE (S256), state and nonce. ID
 * tokens are verified by the provider's published keys, although they come straight from it: a stolen answer of another
 * client, `none` and HMAC are refused alike. What was discovered is believed for an hour.
 */
export function openProvider(settings: ProviderSettings, clock: Clock): Provider {
  let known: { at: number; configuration: Promise<oidc.Configuration> } | undefined
  let failed: { at: number; error: unknown } | undefined
  let running = 0

  function configuration(): Promise<oidc.Configuration> {
    const now = clock().getTime()
    if (failed !== undefined && now - failed.at < failedForMilliseconds) return Promise.reject(failed.error)
    if (known !== undefined && now - known.at < discoveredForMilliseconds) return known.configuration
    failed = undefined
    const found = discover(settings)
    known = { at: now, configuration: found }
    found.catch((error: unknown) => {
      known = undefined
      failed = { at: now, error } // so that nobody can have us ask a provider that is down all the time
    })
    return found
  }

  /** Whoever can open the page can have us ask the provider: only so many at a time. */
  async function bounded<T>(work: () => Promise<T>): Promise<T> {
    if (running >= maxAtOnce) {
      throw new PawlError('overloaded', 'too many people sign in at this moment', { retryAfterSeconds: 2 })
    }
    running += 1
    try {
      return await work()
    } catch (error) {
      throw explained(error)
    } finally {
      running -= 1
    }
  }

  return {
    begin: (redirectUri) =>
      bounded(async () => {
        const [state, nonce] = [oidc.randomState(), oidc.randomNonce()]
        const verifier = oidc.randomPKCECodeVerifier()
        const url = oidc.buildAuthorizationUrl(await configuration(), {
          redirect_uri: redirectUri,
          response_type: 'code',
          scope: settings.scopes.join(' '),
          state,
          nonce,
          code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
        })
        if (!isSafeUrl(url)) throw unreachable(`its authorization endpoint is ${url.protocol}//${url.host}`)
        return { url: url.href, state, nonce, verifier }
      }),
    finish: (callback, expected) =>
      bounded(async () => redeem(await configuration(), settings, callback, expected)),
  }
}

async function discover(settings: ProviderSettings): Promise<oidc.Configuration> {
  const { issuer, clientId, clientSecret, ca, timeoutMilliseconds = usualTimeoutMilliseconds } = settings
  const fetch = boundedFetch({ ca, timeoutMilliseconds, maxBytes })
  const found = await oidc.discovery(new URL(issuer), clientId, {}, oidc.None(), {
    [oidc.customFetch]: fetch,
    timeout: timeoutMilliseconds / 1000,
    // Our own fetch lets HTTP through on this machine only.
    execute: [oidc.allowInsecureRequests],
  })
  const metadata = found.serverMetadata()
  const configuration = new oidc.Configuration(
    metadata,
    clientId,
    {},
    clientAuthentication(clientSecret, metadata.token_endpoint_auth_methods_supported),
  )
  configuration[oidc.customFetch] = fetch
  configuration.timeout = timeoutMilliseconds / 1000
  oidc.allowInsecureRequests(configuration)
  oidc.enableNonRepudiationChecks(configuration)
  return configuration
}

/** `client_secret_basic` is what a provider takes that names none (OpenID Connect Discovery 1.0 §3). */
function clientAuthentication(
  secret: string | undefined,
  methods: readonly string[] | undefined,
): oidc.ClientAuth {
  if (secret === undefined) return oidc.None()
  return methods === undefined || methods.includes('client_secret_basic')
    ? oidc.ClientSecretBasic(secret)
    : oidc.ClientSecretPost(secret)
}

async function redeem(
  configuration: oidc.Configuration,
  { groupsClaim, nameClaim }: ProviderSettings,
  callback: URL,
  { state, nonce, verifier }: Omit<Begun, 'url'>,
): Promise<Claims> {
  const tokens = await oidc.authorizationCodeGrant(configuration, callback, {
    expectedState: state,
    expectedNonce: nonce,
    pkceCodeVerifier: verifier,
    idTokenExpected: true,
  })
  const claims = tokens.claims()
  if (claims === undefined) throw refused('no ID token')
  const wanted = [groupsClaim, nameClaim, ...(nameClaim === 'email' ? ['email_verified'] : [])]
  const missing = wanted.some((name) => claimAt(claims, name) === undefined)
  if (!missing || configuration.serverMetadata().userinfo_endpoint === undefined) return claims
  // Many providers put only the subject into the ID token. The answer is about the same subject, or refused.
  const more = await oidc.fetchUserInfo(configuration, tokens.access_token, claims.sub)
  return { ...more, ...claims }
}

/** What went wrong, with nothing of what was sent: the log gets the library's own words and codes. */
function explained(error: unknown): PawlError {
  let deepest = error as Coded
  for (let under: unknown = error; under instanceof Error; under = under.cause) {
    if (isPawlError(under)) return under
    if (under.name === 'TimeoutError' || under.name === 'AbortError') return unreachable('no answer in time')
    // What has no code of the library's is somebody else's error, and may quote what was sent.
    if (typeof (under as Coded).code === 'string') deepest = under as Coded
  }
  const { code, error: answered, message } = deepest
  const word = [answered, code].find((one) => typeof one === 'string' && /^[A-Za-z0-9_.-]{1,64}$/.test(one))
  const why = typeof message === 'string' ? message.slice(0, 200) : 'an unknown error'
  return refused(word === undefined ? why : `${String(word)}: ${why}`)
}

interface Coded {
  readonly code?: unknown
  readonly error?: unknown
  readonly message?: unknown
}

function refused(why: string): PawlError {
  return new PawlError('sign-in-refused', 'the provider did not vouch for this sign-in', {
    hint: "sign in again; if that does not help, the event log and the server's log say why",
    internal: why,
  })
}
