import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import type { SignInSettings } from '../../src/fleet/sign-in-settings.ts'
import type { OperatorListenerOptions } from '../../src/http/operator-listener.ts'
import type { SignIn } from '../../src/http/sign-in/options.ts'
import { openProvider } from '../../src/http/sign-in/provider.ts'
import { openClientAuthority } from '../../src/pki/client-authority.ts'
import { prepared } from '../cli/helpers/installation.ts'
import { type Browser, openBrowser, type Shown } from './browser.ts'
import { clientId, clientSecret } from './oidc.ts'
import { listenOver } from './operator-listener.ts'
import { freePort } from './ports.ts'
import type { World } from './world.ts'

/** An operator listener on loopback, over HTTPS, where people sign in. */
export interface Site {
  readonly world: World
  readonly app: FastifyInstance
  readonly url: string
  readonly ca: string
  readonly signIn: SignIn
  readonly logged: string[]
  browser(): Browser
}

/** What a test wants different. */
export interface SiteOptions {
  readonly settings?: Partial<SignInSettings>
  readonly scopes?: readonly string[]
  /** The CA of the provider's certificate. */
  readonly providerCa?: string
  readonly listener?: Partial<OperatorListenerOptions>
}

/** Opens one; `issuerOf` starts the provider when it is known where people come back to. */
export async function openSite(
  t: Test,
  world: World,
  issuerOf: (redirectUri: string) => Promise<string>,
  {
    settings = {},
    scopes = ['openid', 'profile', 'email', 'groups'],
    providerCa,
    listener = {},
  }: SiteOptions = {},
): Promise<Site> {
  const port = await freePort()
  const operatorUrl = `https://127.0.0.1:${port}`
  const issuer = await issuerOf(`${operatorUrl}/auth/callback`)
  const all: SignInSettings = {
    operatorUrl,
    issuer,
    groupsClaim: 'groups',
    nameClaim: 'email',
    roles: [
      { group: 'pawl-admins', role: 'admin' },
      { group: 'ops', role: 'operator' },
      { group: 'everyone', role: 'viewer' },
    ],
    idleSeconds: 3600,
    maxSeconds: 43_200,
    loginTokenSeconds: 43_200,
    ...settings,
  }
  const { groupsClaim, nameClaim } = all
  const provider = openProvider(
    {
      issuer,
      clientId,
      clientSecret,
      scopes,
      groupsClaim,
      nameClaim,
      ca: providerCa,
      timeoutMilliseconds: 4000, // a slow machine is no provider that hangs
    },
    world.clock.now,
  )
  const signIn = { settings: all, provider, sealer: settingsSealer(Buffer.alloc(32, 9)) }
  const { tls, folder } = await prepared()
  const clients = openClientAuthority(folder, 'operator')
  const asking = { ca: clients.certificate, requestCert: true, rejectUnauthorized: false }
  const { app, logged } = await listenOver(t, world, {
    tls: { ...tls, ...asking },
    signIn,
    issueClientCertificate: clients.issue,
    ...listener,
  })
  await app.listen({ host: '127.0.0.1', port })
  const ca = String(tls.cert)
  return { world, app, url: operatorUrl, ca, signIn, logged, browser: () => openBrowser(ca) }
}

/** Signs in at the real provider's own pages. */
export async function signInAs(
  site: Site,
  browser: Browser,
  account: string,
  to = '/auth/account',
): Promise<Shown> {
  let page = await browser.open(`${site.url}/auth/login?to=${encodeURIComponent(to)}`)
  page = await browser.submit(page, { login: account, password: 'any' })
  return /name="prompt" value="consent"/.test(page.text) ? browser.submit(page) : page
}
