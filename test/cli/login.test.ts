import { X509Certificate } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createOperator } from '../../src/fleet/operators.ts'
import { makeCertificate } from '../../src/pki/x509.ts'
import type { Browser, Shown } from '../helpers/browser.ts'
import { startProvider } from '../helpers/oidc.ts'
import { openSite, type Site, signInAs } from '../helpers/sign-in.ts'
import { rsaKey } from '../helpers/signing.ts'
import { until } from '../helpers/until.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'
import { prepared, type Ran, run, temporaryFolder } from './helpers/installation.ts'

const accounts = {
  'jane-1': { email: 'jane@example.com', email_verified: true, groups: ['ops'] },
  'root-1': { email: 'root@example.com', email_verified: true, groups: ['pawl-admins'] },
}

/** A site, and a home of somebody who works with it. */
interface Desk {
  readonly site: Site
  readonly home: string
  readonly config: string
  readonly admin: string
  pawl(line: string, options?: Parameters<typeof run>[1]): Promise<Ran>
}

async function openDesk(t: Test, openWorld: OpenWorld): Promise<Desk> {
  const world = await openWorld()
  const site = await openSite(t, world, (redirect) => startProvider(t, redirect, accounts))
  const home = temporaryFolder(t)
  writeFileSync(join(home, 'ca.crt'), readFileSync(join((await prepared()).folder, 'ca.crt')))
  const admin = await createOperator(world.context, { name: 'root', role: 'admin', expiresAt: null })
  return {
    site,
    home,
    config: join(home, '.config', 'pawl', 'config.json'),
    admin,
    pawl: (line, options = {}) =>
      run(
        line.replaceAll('$URL', site.url).replaceAll('$HOME', home).split(' '),
        { ...options, env: { HOME: home, ...options.env } },
        world.clock.now,
      ),
  }
}

/** Whoever is signed in in the browser types a code, and answers. */
async function confirm(site: Site, browser: Browser, code: string, decision: string): Promise<Shown> {
  const asked = await browser.open(`${site.url}/auth/device`)
  const shown = await browser.submit(asked, { code })
  return decision === 'look' ? shown : browser.submit(shown, { decision })
}

const codeIn = (text: string): string => /[0-9a-z]{5}-[0-9a-z]{5}/.exec(text)?.[0] ?? ''

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('login believes no server by itself: a file, a fingerprint, or nothing', async (t) => {
    const { site, config, admin, pawl } = await openDesk(t, openWorld)
    const stdin = `${admin}\n`
    const none = await pawl('login $URL --token-stdin', { stdin })
    t.match([none.exit, none.stderr], [2, /nothing says which root certificate/])
    t.notOk(existsSync(config))
    const other = await pawl(`login $URL --token-stdin --ca-fingerprint ${'a'.repeat(64)}`, { stdin })
    t.match([other.exit, other.stderr], [1, /has no certificate with this fingerprint/])
    const root = new X509Certificate(readFileSync(join((await prepared()).folder, 'ca.crt')))
    const pinned = await pawl(`login $URL --token-stdin --ca-fingerprint SHA256=${root.fingerprint256}`, {
      stdin,
    })
    t.match([pinned.exit, pinned.stdout], [0, `root (admin) at ${site.url}\n`], pinned.stderr)
    t.equal(statSync(config).mode & 0o777, 0o600)
    t.match(
      (await pawl('whoami')).stdout,
      /^name +root\nrole +admin\nby +token\nuntil +it is revoked\nserver +https/,
    )
    const again = await pawl('login --token-stdin', { stdin })
    t.equal(again.exit, 0, 'the same server again')
    const wrong = await pawl('login $URL --ca $HOME/ca.crt --token-stdin --context b', {
      stdin: 'x'.repeat(44),
    })
    t.match([wrong.exit, wrong.stderr], [1, /the server does not know this operator token/])
    t.notMatch(readFileSync(config, 'utf8'), '"b"', 'what was not accepted is not kept')
    chmodSync(config, 0o644)
    t.match((await pawl('whoami')).stderr, /has mode 0644: others than its owner can reach it/)
    chmodSync(config, 0o600)
    writeFileSync(config, '{"current": 5}')
    t.match((await pawl('whoami')).stderr, /does not hold what pawl login writes/)
  })

  await t.test(
    'the first that names a server counts: a flag, the environment, what login wrote',
    async (t) => {
      const { site, home, admin, pawl } = await openDesk(t, openWorld)
      const stdin = admin
      for (const name of ['a', 'b']) {
        const ran = await pawl(`login $URL --ca $HOME/ca.crt --token-stdin --context ${name}`, { stdin })
        t.equal(ran.exit, 0, ran.stderr)
      }
      t.match((await pawl('context list')).stdout, /a +https.*token\nb \* +https.*token/s)
      t.equal((await pawl('context use a')).stdout, 'a is the current context\n')
      t.match((await pawl('context use c')).stderr, /there is no context "c"/)
      const elsewhere = { PAWL_URL: 'https://127.0.0.1:9', PAWL_TOKEN: admin, PAWL_CA: join(home, 'ca.crt') }
      t.match(
        (await pawl('whoami', { env: elsewhere })).stderr,
        /127\.0\.0\.1:9 does not answer/,
        'the environment',
      )
      t.equal((await pawl('whoami --context b', { env: elsewhere })).exit, 0, 'the flag')
      t.match((await pawl('whoami --context b --data /x')).stderr, /--data and --context name two servers/)
      t.match((await pawl('whoami', { env: { PAWL_CONTEXT: 'c' } })).stderr, /there is no context "c"/)
      const out = await pawl('logout')
      t.match(
        [out.exit, out.stdout, out.stderr],
        [0, 'context a is forgotten\n', /stays good until it is revoked/],
      )
      t.match((await pawl('whoami')).stderr, /no server is named/)
      t.equal(JSON.parse((await pawl('whoami --context b --json')).stdout).name, 'root')
      t.notMatch(site.logged.join(''), admin.slice(12))
    },
  )

  await t.test(
    'a person signs a command line in from a browser, by a code that is shown there',
    async (t) => {
      const { site, pawl, config } = await openDesk(t, openWorld)
      const browser = site.browser()
      let shown: Shown | undefined
      const ran = await pawl('login $URL --ca $HOME/ca.crt', {
        wait: async () => {
          if (shown !== undefined) return
          const { code } = await onlyRequest(site)
          const asked = await signInAs(site, browser, 'jane-1', '/auth/device')
          t.match(asked.text, /Type the code/)
          shown = await browser.submit(asked, { code: ` ${code.toUpperCase().replace('-', '')} ` })
          t.match(
            shown.text,
            /<code>127\.0\.0\.1<\/code>.*pawl on .*oidc\/jane@example.com.*<strong>operator<\/strong>/s,
          )
          t.match(
            (await browser.submit(shown, { decision: 'approve' })).text,
            /The command line goes on by itself/,
          )
        },
      })
      t.equal(ran.exit, 0, ran.stderr)
      t.match(
        ran.stderr,
        new RegExp(`open ${site.url}/auth/device in a browser, sign in, and type the code\n +[0-9a-z]{5}-`),
      )
      t.equal(ran.stdout, `oidc/jane@example.com (operator) at ${site.url}, until 2026-11-21 18:00:00Z\n`)
      t.match(await site.world.events({ kind: 'login-approved' }), [
        { actor: 'operator:oidc/jane@example.com', source: '127.0.0.1', detail: { from: '127.0.0.1' } },
      ])
      t.match(await site.world.events({ kind: 'operator-created' }), [
        {},
        {
          actor: 'operator:oidc/jane@example.com',
          detail: { role: 'operator', expiresAt: '2026-11-21T18:00:00.000Z' },
        },
      ])
      const token = String(JSON.parse(readFileSync(config, 'utf8')).contexts[new URL(site.url).host].token)
      t.notMatch(await site.world.dump(), token.slice(12))
      t.equal((await pawl('node list')).exit, 0)
      t.equal((await pawl('logout')).stderr.includes('warning'), false)
      const old = { PAWL_URL: site.url, PAWL_TOKEN: token, PAWL_CA: join(config, '../../../ca.crt') }
      t.match(
        (await pawl('whoami', { env: old })).stderr,
        /error: the operator token was revoked/,
        'its owner is told',
      )
    },
  )

  await t.test('nobody else gets what a code is for, and a code is good once', async (t) => {
    const { site, pawl } = await openDesk(t, openWorld)
    const browser = site.browser()
    await signInAs(site, browser, 'jane-1')
    let decided = ''
    const denied = await pawl('login $URL --ca $HOME/ca.crt', {
      wait: async () => {
        decided = (await onlyRequest(site)).code
        await confirm(site, browser, decided, 'deny')
      },
    })
    t.match([denied.exit, denied.stderr], [1, /the code was turned down in the browser/])
    t.match(await confirm(site, browser, decided, 'look'), {
      status: 404,
      text: /no command line waits under this code/,
    })
    const late = await pawl('login $URL --ca $HOME/ca.crt', {
      wait: async () => site.world.clock.advance(300),
    })
    t.match([late.exit, late.stderr], [1, /nobody confirmed the code in time|this sign-in is over/])
    const post = (path: string, body: object): Promise<Shown> =>
      browser.ask(`${site.url}/api/v1/${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const begun = JSON.parse((await post('logins', { label: 'x' })).text)
    t.equal(codeIn(begun.code), begun.code)
    t.match(begun, { expiresAt: '2026-11-21T06:20:00.000Z', intervalSeconds: 5 })
    t.equal(
      (await post('logins/finish', { request: `${begun.request.slice(0, 43)}_` })).status,
      404,
      'another secret',
    )
    t.match(
      JSON.parse((await post('logins/finish', begun)).text),
      { code: 'invalid' },
      'nothing but the secret',
    )
    const { request } = begun
    t.match(JSON.parse((await post('logins/finish', { request })).text), {
      state: 'waiting',
      intervalSeconds: 5,
    })
    t.match(JSON.parse((await post('logins/finish', { request })).text), { intervalSeconds: 10 }, 'too soon')
    await confirm(site, browser, begun.code, 'approve')
    const answers = await Promise.all(Array.from({ length: 10 }, () => post('logins/finish', { request })))
    t.equal(answers.filter(({ text }) => text.includes('"token"')).length, 1, 'one of ten gets the token')
    for (let i = 0; i < 5; i += 1) t.equal((await post('logins', {})).status, 201)
    t.equal((await post('logins', {})).status, 503, 'five wait from one address')
    const asked = await browser.open(`${site.url}/auth/device`)
    const forged = { 'content-type': 'application/x-www-form-urlencoded', origin: 'https://evil.example' }
    const [, csrf] = /name="csrf" value="([^"]+)"/.exec(asked.text) ?? []
    const body = `csrf=${csrf}&code=${begun.code}&decision=approve`
    t.equal(
      (await browser.ask(`${site.url}/auth/device/decide`, { method: 'POST', headers: forged, body })).status,
      403,
    )
    site.world.clock.advance(61)
    for (let i = 0; i < 20; i += 1) await browser.submit(asked, { code: 'aaaaa-aaaaa' })
    t.equal((await browser.submit(asked, { code: begun.code })).status, 429, 'codes are not guessed')
  })

  await t.test('a machine is known by its certificate, and by no other', async (t) => {
    const { site, home, admin, pawl } = await openDesk(t, openWorld)
    await pawl('login $URL --ca $HOME/ca.crt --token-stdin --context admin', { stdin: admin })
    const made = await pawl(
      'operator certificate create --name ci --role operator --expires 30d --out-key $HOME/ci.key --out-cert $HOME/ci.crt',
    )
    t.match([made.exit, made.stdout], [0, /for cert\/ci \(operator\) is good until 2026-12-21/], made.stderr)
    t.equal(statSync(join(home, 'ci.key')).mode & 0o777, 0o600)
    const by = (name: string) => ({
      PAWL_URL: site.url,
      PAWL_CA: join(home, 'ca.crt'),
      PAWL_CERT: join(home, `${name}.crt`),
      PAWL_KEY: join(home, `${name}.key`),
    })
    const who = await pawl('whoami --json', { env: by('ci') })
    t.match(JSON.parse(who.stdout), {
      name: 'cert/ci',
      role: 'operator',
      how: 'certificate',
      expiresAt: /^2026-12-21/,
    })
    t.equal((await pawl('node add n1', { env: by('ci') })).exit, 0)
    t.match(await site.world.events({ kind: 'node-added' }), [{ actor: 'operator:cert/ci' }])
    t.match(
      (await pawl('operator token list', { env: by('ci') })).stderr,
      /this needs the role admin; cert\/ci has operator/,
    )
    await until(
      t,
      async () => JSON.parse((await pawl('operator certificate list --json')).stdout).items[0].lastUsedFrom,
      '127.0.0.1',
    )

    const now = site.world.clock.now()
    await writePair(home, 'alien', await alien(now))
    const server = readFileSync(join((await prepared()).folder, 'pki', 'operator.pem'), 'utf8')
    await writePair(home, 'server', server)
    for (const name of ['alien', 'server']) {
      const ran = await pawl('whoami', { env: by(name) })
      t.match([ran.exit, ran.stderr], [1, /is not one that this server issued for operators/], name)
    }
    const mixed = await pawl('whoami', { env: { ...by('ci'), PAWL_KEY: join(home, 'alien.key') } })
    t.match(mixed.stderr, /alien\.key is not the key of .*ci\.crt/)
    t.match(
      (await pawl('whoami', { env: { ...by('ci'), PAWL_TOKEN: admin } })).stderr,
      /two ways to say who asks/,
    )
    const half = { PAWL_URL: site.url, PAWL_CERT: join(home, 'ci.crt') }
    t.match(
      (await pawl('whoami', { env: half })).stderr,
      /PAWL_URL and PAWL_CERT without PAWL_KEY and PAWL_CA/,
    )
    const header = {
      'x-client-cert': readFileSync(join(home, 'ci.crt'), 'base64'),
      'x-ssl-client-verify': 'SUCCESS',
    }
    t.equal(
      (await site.browser().ask(`${site.url}/api/v1/whoami`, { headers: header })).status,
      401,
      'no header is believed',
    )

    const { id } = JSON.parse((await pawl('operator certificate list --json')).stdout).items[0]
    t.equal(
      (await pawl('login $URL --ca $HOME/ca.crt --cert $HOME/ci.crt --key $HOME/ci.key --context ci')).exit,
      0,
    )
    t.equal((await pawl(`operator certificate revoke ${id} --context admin`)).exit, 0)
    t.match(
      (await pawl('whoami --context ci')).stderr,
      /error: the client certificate was revoked\nhint: run pawl login --context ci/,
    )
    await pawl(
      'operator certificate create --context admin --name short --role viewer --expires 1h --out-key $HOME/s.key --out-cert $HOME/s.crt',
    )
    site.world.clock.advance(3601)
    t.match(
      (await pawl('whoami', { env: by('s') })).stderr,
      /error: the client certificate expired at 2026-11-21T07:00:00/,
    )
    const causes = (await site.world.events({ kind: 'operator-refused' })).map(({ detail }) => [
      detail.cause,
      detail.name,
    ])
    t.same(causes, [
      ['other-certificate', undefined],
      ['other-certificate', undefined],
      ['revoked-certificate', 'ci'],
      ['expired-certificate', 'short'],
    ])
  })

  await t.test('a certificate request that is none, or of a weak key, gets no certificate', async (t) => {
    const { site, home, admin, pawl } = await openDesk(t, openWorld)
    await pawl('login $URL --ca $HOME/ca.crt --token-stdin', { stdin: admin })
    writeFileSync(join(home, 'weak.key'), rsaKey(1024), { mode: 0o600 })
    const weak = await pawl(
      'operator certificate create --name w --role viewer --out-key $HOME/weak.key --out-cert $HOME/w.crt',
    )
    t.match([weak.exit, weak.stderr], [1, /neither RSA with 2048 to 8192 bits/])
    t.notOk(existsSync(join(home, 'w.crt')))
    for (const request of [
      'x',
      '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----',
    ]) {
      const shown = await site.app.inject({
        method: 'POST',
        url: '/api/v1/operator-certificates',
        headers: { authorization: `Bearer ${admin}` },
        payload: { name: 'x', role: 'viewer', request },
      })
      t.match(shown.json(), { status: 422, code: 'signature-invalid' })
    }
  })

  await t.test('ending a person ends the browser, the command line and the name, at once', async (t) => {
    const { site, admin, pawl } = await openDesk(t, openWorld)
    const browser = site.browser()
    await signInAs(site, browser, 'jane-1')
    await pawl('login $URL --ca $HOME/ca.crt --context jane', {
      wait: async () => void (await confirm(site, browser, (await onlyRequest(site)).code, 'approve')),
    })
    t.equal((await pawl('whoami --context jane')).exit, 0)
    await pawl('login $URL --ca $HOME/ca.crt --token-stdin --context admin', { stdin: admin })
    t.match((await pawl('operator session list')).stdout, /oidc\/jane@example.com +operator +127\.0\.0\.1/)
    t.match((await pawl('operator person list')).stdout, /oidc\/jane@example.com +jane-1/)
    const listed = JSON.parse((await pawl('operator token list --json')).stdout).items
    t.match(
      listed.find(({ personal }: { personal: boolean }) => personal),
      { name: 'oidc/jane@example.com' },
    )
    t.match((await pawl('operator person remove oidc/jane@example.com')).stdout, /is signed out everywhere/)
    t.match((await pawl('whoami --context jane')).stderr, /the operator token was revoked/)
    t.equal((await browser.ask(`${site.url}/api/v1/whoami`)).status, 401)
    t.match((await pawl('operator person remove oidc/jane@example.com')).stderr, /nobody named/)
    t.match((await pawl('operator session revoke nobody')).stderr, /no session has the id "nobody"/)
  })
})

async function onlyRequest({ world }: Site): Promise<{ code: string }> {
  return world.context.storage.db
    .selectFrom('login_requests')
    .selectAll()
    .where('state', '=', 'waiting')
    .executeTakeFirstOrThrow()
}

/** A client certificate that another CA made: here, itself. */
async function alien(now: Date): Promise<string> {
  const key = rsaKey()
  return (
    key +
    (await makeCertificate({ kind: 'operator-client', commonName: 'Pawl operator ci', names: [], key, now }))
  )
}

async function writePair(home: string, name: string, text: string): Promise<void> {
  mkdirSync(home, { recursive: true })
  const at = text.indexOf('-----BEGIN CERTIFICATE-----')
  writeFileSync(join(home, `${name}.key`), text.slice(0, at), { mode: 0o600 })
  writeFileSync(join(home, `${name}.crt`), text.slice(at))
}
