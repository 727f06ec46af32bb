import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { beginLogin, decide, finishLogin } from '../../src/fleet/login-requests.ts'
import { showPeople } from '../../src/fleet/people.ts'
import { signIn, tidySignIns } from '../../src/fleet/sign-in.ts'
import { prepared } from '../cli/helpers/installation.ts'
import type { Browser, Shown } from '../helpers/browser.ts'
import { type Hostile, startHostileProvider, startProvider } from '../helpers/oidc.ts'
import { listenOver } from '../helpers/operator-listener.ts'
import { openSite, type Site, signInAs } from '../helpers/sign-in.ts'
import { until } from '../helpers/until.ts'
import { forEachDatabase } from '../helpers/world.ts'

const accounts = {
  'jane-1': { email: 'Jane@Example.com', email_verified: true, groups: ['staff', 'ops', 'everyone'] },
  'root-1': { email: 'root@example.com', email_verified: true, groups: 'pawl-admins' },
  'guest-1': { email: 'guest@example.com', email_verified: true, groups: ['staff'] },
  'mallory-1': { email: 'jane@example.com', email_verified: true, groups: ['ops'] },
  'liar-1': { email: 'root@example.com', email_verified: false, groups: ['pawl-admins'] },
}

const session = '__Host-pawl'

const sessionOf = (site: Site, browser: Browser): string | undefined =>
  browser.cookies.get(new URL(site.url).host)?.get(session)

async function whoami(
  site: Site,
  browser: Browser,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const shown = await browser.ask(`${site.url}/api/v1/whoami`)
  return { status: shown.status, body: JSON.parse(shown.text) }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a person signs in through a real provider, is who the groups say, and signs out',
    async (t) => {
      const site = await openSite(t, await openWorld(), (redirect) => startProvider(t, redirect, accounts))
      const browser = site.browser()
      t.match((await browser.open(`${site.url}/auth/account`)).text, /<a href="\/auth\/login">Sign in<\/a>/)
      const page = await signInAs(site, browser, 'jane-1')
      t.equal(page.status, 200)
      t.match(page.text, /<code>oidc\/jane@example.com<\/code>.*operator/s)
      t.match(page.headers, {
        'content-security-policy':
          /^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
        'cache-control': 'no-store',
      })
      const { status, body } = await whoami(site, browser)
      t.equal(status, 200)
      t.match(body, {
        name: 'oidc/jane@example.com',
        role: 'operator',
        scope: null,
        how: 'session',
        expiresAt: '2026-11-21T18:00:00.000Z',
        csrf: /^[\w-]{43}$/,
      })
      const before = sessionOf(site, browser)
      t.match((await browser.submit(page)).text, /Not signed in/)
      t.equal(sessionOf(site, browser), undefined)
      const headers = { cookie: `${session}=${before}` }
      t.equal(
        (await browser.ask(`${site.url}/api/v1/whoami`, { headers })).status,
        401,
        'at once, not by the cookie alone',
      )
      const events = (await site.world.events()).filter(({ kind }) => kind.startsWith('sign'))
      t.match(
        events.map(({ kind, actor, source, detail }) => [kind, actor, source, detail]),
        [
          [
            'signed-in',
            'operator:oidc/jane@example.com',
            '127.0.0.1',
            { role: 'operator', groups: ['ops', 'everyone'], subject: 'jane-1' },
          ],
          ['signed-out', 'operator:oidc/jane@example.com', '127.0.0.1', {}],
        ],
      )
      const secret = String(before).slice(12)
      t.notMatch(await site.world.dump(), secret, 'only its hash is stored')
      t.notMatch(site.logged.join(''), new RegExp(`${secret}|code=[^*]`), 'and nothing of it is logged')
    },
  )

  await t.test(
    'who has no group with a role, no verified address, or the name of another, is told why',
    async (t) => {
      const site = await openSite(t, await openWorld(), (redirect) => startProvider(t, redirect, accounts))
      await signInAs(site, site.browser(), 'jane-1')
      const cases: [string, string, RegExp, string][] = [
        [
          'guest-1',
          'no-role',
          /none of the groups of this account has a role here/,
          'operator:oidc/guest@example.com',
        ],
        ['liar-1', 'email-unverified', /has not verified the e-mail address/, 'unknown'],
        [
          'mallory-1',
          'name-taken',
          /another account of the provider has had this name/,
          'operator:oidc/jane@example.com',
        ],
      ]
      for (const [account, cause, text, actor] of cases) {
        const browser = site.browser()
        const page = await signInAs(site, browser, account)
        t.match([page.status, page.text], [403, text], account)
        t.equal(sessionOf(site, browser), undefined)
        t.match((await site.world.events({ kind: 'sign-in-refused' })).at(-1), { actor, detail: { cause } })
      }
      t.match(
        await whoami(site, await signedIn(site, 'root-1')),
        { body: { role: 'admin' } },
        'one group as a string',
      )
    },
  )

  await t.test(
    'a session ends when it is idle, when it is old, when it is revoked, and with its provider',
    async (t) => {
      const site = await openSite(t, await openWorld(), (redirect) => startProvider(t, redirect, accounts))
      const { clock } = site.world
      const [jane, root] = [await signedIn(site, 'jane-1'), await signedIn(site, 'root-1')]
      const use = async (what: string): Promise<void> => {
        clock.advance(3599)
        t.equal((await whoami(site, jane)).status, 200, what)
        await until(t, () => lastSeen(site, jane), clock.now().toISOString())
      }
      await use('in time')
      await use('used again in time')
      t.match(await whoami(site, root), {
        status: 401,
        body: { detail: 'the session ended at 2026-11-21T07:00:00.000Z' },
      })
      for (let hour = 3; hour <= 12; hour += 1) await use(`hour ${hour}`)
      clock.advance(12)
      t.match(await whoami(site, jane), {
        status: 401,
        body: { detail: 'the session ended at 2026-11-21T18:00:00.000Z' },
      })

      const [second, admin] = [await signedIn(site, 'jane-1'), await signedIn(site, 'root-1')]
      const listed = JSON.parse((await admin.ask(`${site.url}/api/v1/operator-sessions`)).text).items
      t.match(
        listed.map(({ name, role, source }: Record<string, string>) => [name, role, source]).sort(), // made at one time
        [
          ['oidc/root@example.com', 'admin', '127.0.0.1'],
          ['oidc/jane@example.com', 'operator', '127.0.0.1'],
        ].sort(),
      )
      const id = String(sessionOf(site, second)).slice(0, 12)
      t.equal((await change(site, admin, 'DELETE', `operator-sessions/${id}`)).status, 204)
      t.match(await whoami(site, second), {
        status: 401,
        body: { detail: 'the session is not known, or it was ended' },
      })
      t.match(await site.world.events({ kind: 'sign-in-ended' }), [
        { actor: 'operator:oidc/root@example.com', detail: { session: id, name: 'oidc/jane@example.com' } },
      ])
      const { app } = await elsewhere(t, site, { issuer: 'https://other.example.com' })
      const headers = { cookie: `${session}=${sessionOf(site, admin)}` }
      t.equal((await app.inject({ url: '/api/v1/whoami', headers })).statusCode, 401, 'another provider')
    },
  )

  await t.test('another site makes nobody change anything, nor sign in as somebody else', async (t) => {
    const site = await openSite(t, await openWorld(), (redirect) => startProvider(t, redirect, accounts))
    const admin = await signedIn(site, 'root-1')
    const { csrf } = (await whoami(site, admin)).body
    const ours = { origin: site.url, 'sec-fetch-site': 'same-origin' }
    const proof = { 'x-pawl-csrf': String(csrf) }
    const cases: [string, Record<string, string>, number][] = [
      ['no proof', ours, 403],
      ['a wrong proof', { ...ours, 'x-pawl-csrf': `${String(csrf).slice(0, 42)}_` }, 403],
      ['another origin', { ...proof, origin: 'https://evil.example' }, 403],
      ['no origin, as from a sandbox', { ...proof, origin: 'null' }, 403],
      ['a neighbour site', { ...proof, 'sec-fetch-site': 'same-site' }, 403],
      ['another site', { ...ours, ...proof, 'sec-fetch-site': 'cross-site' }, 403],
      ['nothing of a browser', proof, 403],
      ['all of it', { ...ours, ...proof }, 404],
      ['an origin alone', { ...proof, origin: site.url }, 404],
    ]
    for (const [what, headers, status] of cases) {
      const shown = await admin.ask(`${site.url}/api/v1/nodes/n`, { method: 'DELETE', headers })
      t.equal(shown.status, status, what)
      t.equal(JSON.parse(shown.text).code, status === 403 ? 'cross-site' : 'not-found')
    }
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const logout = (headers: Record<string, string>, body: string): Promise<Shown> =>
      admin.ask(`${site.url}/auth/logout`, { method: 'POST', headers: { ...form, ...headers }, body })
    t.equal((await logout({ ...ours, origin: 'https://evil.example' }, `csrf=${csrf}`)).status, 403)
    t.equal((await logout(ours, 'csrf=x')).status, 403)
    t.equal((await whoami(site, admin)).status, 200)
    // Login CSRF: an attacker's answer, sent to somebody else's browser.
    const attacker = site.browser()
    const stolen = await stopBeforeCallback(site, attacker, 'guest-1')
    const victim = site.browser()
    t.match(await victim.open(stolen), { status: 403, text: /not begun in this browser/ })
    await victim.ask(`${site.url}/auth/login`)
    t.match(await victim.open(stolen), { status: 403 }, 'begun in this browser, but not this')
    t.equal(sessionOf(site, victim), undefined)
    for (const to of ['//evil.example', 'https://evil.example', '/\\evil.example', '/%0d%0aset-cookie:x']) {
      const browser = site.browser()
      const page = await signInAs(site, browser, 'root-1', to)
      t.equal(new URL(page.url).origin, site.url, to)
    }
  })

  await t.test('what a hostile provider answers signs nobody in, and is on the record', async (t) => {
    const behaviour: Hostile = {}
    const site = await openSite(t, await openWorld(), () => startHostileProvider(t, behaviour))
    const cases: [string, Hostile, RegExp][] = [
      ['another nonce', { claims: (claims) => ({ ...claims, nonce: 'another' }) }, /nonce/],
      ['no nonce', { claims: ({ nonce: _, ...claims }) => claims }, /nonce/],
      ['another audience', { claims: (claims) => ({ ...claims, aud: 'other' }) }, /aud/],
      ['another issuer', { claims: (claims) => ({ ...claims, iss: 'https://evil.example' }) }, /iss/],
      [
        'an ID token that expired',
        { claims: (claims) => ({ ...claims, exp: Number(claims.iat) - 60 }) },
        /exp/,
      ],
      ['no algorithm', { sign: (claims) => unsigned({ alg: 'none' }, claims, '') }, /alg/],
      [
        'an HMAC under the secret',
        { sign: (claims) => unsigned({ alg: 'HS256' }, claims, 'c2ln') },
        /alg|JWS/,
      ],
      [
        'a signature of nobody',
        { sign: (claims) => unsigned({ alg: 'RS256', kid: 'k1' }, claims, 'c2ln') },
        /signature/,
      ],
      [
        'a key that it does not publish',
        { sign: (claims) => unsigned({ alg: 'RS256', kid: 'k2' }, claims, 'c2ln') },
        /./,
      ],
      [
        'no ID token',
        { token: () => json(200, { access_token: 'a', token_type: 'Bearer' }) },
        /ID Token|id_token/,
      ],
      ['a code that was used', { token: () => json(400, { error: 'invalid_grant' }) }, /invalid_grant/],
      ['no JSON', { token: () => ({ status: 200, body: '<html>' }) }, /./],
      ['an answer without end', { token: () => 'drip' }, /no answer in time/],
      ['no answer', { token: () => 'hang' }, /no answer in time/],
      ['a megabyte', { token: () => ({ status: 200, body: ' '.repeat(2 ** 20) }) }, /larger than/],
    ]
    for (const [what, hostile, reason] of cases) {
      site.world.clock.advance(61)
      const { page, browser } = await attempt(site, behaviour, hostile)
      t.ok(page.status === 403 || page.status === 502, `${what}: ${page.status}`)
      t.equal(sessionOf(site, browser), undefined, what)
      const refused = (await site.world.events({ kind: 'sign-in-refused' })).at(-1)
      t.match(refused, { actor: 'unknown', source: '127.0.0.1', detail: { reason } }, what)
    }
    t.equal((await attempt(site, behaviour, {})).page.status, 200, 'the same without the hostility')
  })

  await t.test('claims are taken as they should be, and nothing else is made of them', async (t) => {
    const behaviour: Hostile = {}
    const site = await openSite(t, await openWorld(), () => startHostileProvider(t, behaviour))
    const groups = (value: unknown): Hostile => ({ claims: (claims) => ({ ...claims, groups: value }) })
    const cases: [string, Hostile, string][] = [
      ['one group as a string', groups('ops'), 'operator'],
      ['the highest of several', groups(['everyone', 'pawl-admins', 'ops']), 'admin'],
      ['a group of another case', groups(['OPS']), 'no-role'],
      ['a string with several names', groups('ops,pawl-admins'), 'no-role'],
      ['a list in a list', groups([['pawl-admins']]), 'groups-malformed'],
      ['an object', groups({ 'pawl-admins': true }), 'groups-malformed'],
      ['numbers', groups([1]), 'groups-malformed'],
      ['more than anyone has', groups(Array.from({ length: 6000 }, (_, i) => `g${i}`)), 'groups-malformed'],
      ['none', groups([]), 'no-role'],
      [
        'elsewhere',
        {
          claims: ({ groups: _, ...rest }) => ({ ...rest, _claim_names: { groups: 'src1' } }),
          userinfo: { sub: 'jane-1' },
        },
        'groups-elsewhere',
      ],
      [
        'at the userinfo endpoint',
        { claims: ({ groups: _, ...rest }) => rest, userinfo: { sub: 'jane-1', groups: ['ops'] } },
        'operator',
      ],
      [
        'of somebody else',
        { claims: ({ groups: _, ...rest }) => rest, userinfo: { sub: 'root-1', groups: ['pawl-admins'] } },
        'provider-refused',
      ],
      [
        'an address as a text "true"',
        { claims: (claims) => ({ ...claims, email_verified: 'true' }) },
        'email-unverified',
      ],
      ['a name with a slash', { claims: (claims) => ({ ...claims, email: 'x/../root' }) }, 'name-malformed'],
      [
        'a name that looks like another',
        { claims: (claims) => ({ ...claims, email: 'jane@exаmple.com' }) },
        'name-malformed',
      ],
      ['no subject', { claims: ({ sub: _, ...rest }) => rest }, 'provider-refused'],
    ]
    for (const [what, hostile, result] of cases) {
      site.world.clock.advance(61)
      const { page, browser } = await attempt(site, behaviour, hostile)
      if (page.status === 200) t.equal((await whoami(site, browser)).body.role, result, what)
      else t.equal((await site.world.events({ kind: 'sign-in-refused' })).at(-1)?.detail.cause, result, what)
    }
  })

  await t.test(
    'a provider that is away, or is not the one it should be, is told apart from a refusal',
    async (t) => {
      const behaviour: Hostile = {}
      const hang = await openSite(t, await openWorld(), () => startHostileProvider(t, behaviour))
      behaviour.discovery = () => 'hang'
      const first = await hang.browser().open(`${hang.url}/auth/login`)
      t.match([first.status, first.text], [502, /the sign-in provider does not answer as it should/])
      t.match(hang.logged.join(''), /no answer in time/)
      behaviour.discovery = (document) => ({ ...document, issuer: 'https://evil.example' })
      hang.world.clock.advance(6)
      t.equal((await hang.browser().open(`${hang.url}/auth/login`)).status, 403)
      behaviour.discovery = (document) => ({ ...document, token_endpoint: 'http://192.0.2.1/token' })
      hang.world.clock.advance(6)
      t.match((await attempt(hang, behaviour, {})).page.status, 502, 'no secret goes out without TLS')
      const down = await openSite(t, await openWorld(), async () => 'http://127.0.0.1:9')
      t.equal((await down.browser().open(`${down.url}/auth/login`)).status, 502)
      t.match(await down.browser().ask(`${down.url}/auth/login`, { headers: { accept: '*/*' } }), {
        status: 502,
        headers: { 'content-type': /problem\+json/ },
        text: /"code":"unreachable"/,
      })
    },
  )

  await t.test(
    'a private provider is believed by the CA that the settings name, and by no other',
    async (t) => {
      const behaviour: Hostile = {}
      const { folder, tls } = await prepared()
      const provider = () => startHostileProvider(t, behaviour, tls)
      const ca = readFileSync(join(folder, 'ca.crt'), 'utf8')
      const right = await openSite(t, await openWorld(), provider, { providerCa: ca })
      t.equal((await attempt(right, behaviour, {})).page.status, 200)
      const other = readFileSync(join(folder, 'pki', 'clients.crt'), 'utf8')
      for (const providerCa of [other, undefined]) {
        const site = await openSite(
          t,
          await openWorld(),
          provider,
          providerCa === undefined ? {} : { providerCa },
        )
        t.equal((await attempt(site, behaviour, {})).page.status, 502)
        t.match(site.logged.join(''), /UNABLE_TO|SELF_SIGNED/)
      }
    },
  )

  await t.test(
    'another provider ends what people of the one before had, and its people have their names',
    async (t) => {
      const behaviour: Hostile = {}
      const world = await openWorld()
      const before = await openSite(t, world, () => startHostileProvider(t, behaviour))
      const { browser } = await attempt(before, behaviour, {})
      const { settings } = before.signIn
      const { request, code } = await beginLogin(world.context, settings, { label: 'x', source: '192.0.2.1' })
      const [jane] = await showPeople(world.context)
      const by = { actor: `operator:${jane?.name}`, source: null, role: 'operator' as const }
      const person = await world.context.storage.db
        .selectFrom('people')
        .select('id')
        .executeTakeFirstOrThrow()
      await decide(world.context, by, person.id, { code, approve: true })
      const answer = await finishLogin(world.context, settings, { request, source: '192.0.2.1' })
      const headers = { authorization: `Bearer ${'token' in answer ? answer.token : ''}` }
      const whoHas = async (app: Site['app']): Promise<number> =>
        (await app.inject({ url: '/api/v1/whoami', headers })).statusCode
      t.equal(await whoHas(before.app), 200)

      const after = await openSite(t, world, () => startHostileProvider(t, behaviour))
      t.equal(await whoHas(after.app), 401)
      const cookie = `${session}=${sessionOf(before, browser)}`
      t.equal((await after.app.inject({ url: '/api/v1/whoami', headers: { cookie } })).statusCode, 401)
      t.equal((await attempt(after, behaviour, {})).page.status, 200, 'jane is jane there')
      t.match(await showPeople(world.context), [
        { name: 'oidc/jane@example.com', issuer: after.signIn.settings.issuer },
      ])
      t.equal(await whoHas(before.app), 401, 'and does not come back with the old provider')
      const { app: none } = await listenOver(t, world)
      t.equal(await whoHas(none), 401, 'nor without one')
    },
  )

  await t.test('what is over is removed, and a person has twenty browsers at most', async (t) => {
    const behaviour: Hostile = {}
    const site = await openSite(t, await openWorld(), () => startHostileProvider(t, behaviour))
    const { context, clock } = site.world
    const first = (await attempt(site, behaviour, {})).browser
    for (let i = 0; i < 20; i += 1) {
      clock.advance(1)
      await signIn(
        context,
        site.signIn.settings,
        { sub: 'jane-1', email: 'jane@example.com', email_verified: true, groups: ['ops'] },
        '192.0.2.1',
      )
    }
    t.equal((await whoami(site, first)).status, 401, 'the oldest made room')
    const count = async (): Promise<number[]> =>
      Promise.all(
        (['operator_sessions', 'login_requests', 'people'] as const).map(
          async (table) => (await context.storage.db.selectFrom(table).selectAll().execute()).length,
        ),
      )
    await beginLogin(context, site.signIn.settings, { label: 'x', source: '192.0.2.1' })
    t.same(await count(), [20, 1, 1])
    clock.advance(3000)
    await tidySignIns(context, site.signIn.settings)
    t.same(await count(), [20, 0, 1])
    clock.advance(601)
    await tidySignIns(context, site.signIn.settings)
    t.same(await count(), [0, 0, 1], 'who signed in is remembered')
  })

  await t.test('wrong sign-ins past twenty a minute are held up, before the provider is asked', async (t) => {
    let asked = 0
    const behaviour: Hostile = {}
    const used: Hostile = {
      token: () => {
        asked += 1
        return json(400, { error: 'invalid_grant' })
      },
    }
    const site = await openSite(t, await openWorld(), () => startHostileProvider(t, behaviour))
    for (let i = 0; i < 20; i += 1) t.equal((await attempt(site, behaviour, used)).page.status, 403)
    t.equal((await attempt(site, behaviour, used)).page.status, 429)
    t.equal(asked, 20)
    site.world.clock.advance(61)
    t.equal((await attempt(site, behaviour, {})).page.status, 200)
  })
})

async function lastSeen({ world }: Site, browser: Browser): Promise<string | undefined> {
  const id = [...browser.cookies.values()]
    .map((jar) => jar.get(session)?.slice(0, 12))
    .find((one) => one !== undefined)
  const { db } = world.context.storage
  const row = await db
    .selectFrom('operator_sessions')
    .selectAll()
    .where('id', '=', String(id))
    .executeTakeFirst()
  return row?.last_seen_at
}

async function signedIn(site: Site, account: string): Promise<Browser> {
  const browser = site.browser()
  await signInAs(site, browser, account)
  return browser
}

/** A change by the browser, as a page of ours sends it. */
async function change(site: Site, browser: Browser, method: string, path: string): Promise<Shown> {
  const { csrf } = (await whoami(site, browser)).body
  const headers = { origin: site.url, 'x-pawl-csrf': String(csrf) }
  return browser.ask(`${site.url}/api/v1/${path}`, { method, headers })
}

/** The same database, other settings. */
async function elsewhere(t: Test, site: Site, settings: Partial<Site['signIn']['settings']>) {
  const signIn = { ...site.signIn, settings: { ...site.signIn.settings, ...settings } }
  return listenOver(t, site.world, { signIn })
}

/** Signs in at the provider, and stops when it sends the browser back. */
async function stopBeforeCallback(site: Site, browser: Browser, account: string): Promise<string> {
  const page = await browser.open(`${site.url}/auth/login`)
  browser.cookies.delete(new URL(site.url).host) // what began it is not sent along
  const end = await browser.submit(page, { login: account, password: 'any' })
  const last = /name="prompt" value="consent"/.test(end.text) ? await browser.submit(end) : end
  return last.url
}

/** One sign-in at a provider that the test plays: its page is passed over, as if the person had agreed. */
async function attempt(
  site: Site,
  behaviour: Hostile,
  hostile: Hostile,
): Promise<{ page: Shown; browser: Browser }> {
  const browser = site.browser()
  const sent = await browser.ask(`${site.url}/auth/login`)
  for (const name of Object.keys(behaviour) as (keyof Hostile)[])
    if (name !== 'discovery') delete behaviour[name]
  if (sent.headers.location === undefined) return { page: sent, browser }
  const url = new URL(sent.headers.location)
  Object.assign(behaviour, hostile, { nonce: url.searchParams.get('nonce') })
  const callback = `${site.url}/auth/callback?code=any&state=${url.searchParams.get('state')}`
  return { page: await browser.open(callback), browser }
}

function unsigned(header: object, claims: object, signature: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part(header)}.${part(claims)}.${signature}`
}

function json(status: number, body: object): { status: number; body: string } {
  return { status, body: JSON.stringify(body) }
}
