import { execFile, execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose'
import { discovery, None, customFetch as oidcFetch } from 'openid-client'
import pino from 'pino'
import t, { type Test } from 'tap'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { demoProfile, storeDemoFleet, storeProfile } from '../helpers/fleet.ts'
import { boot, type Learnt, machineOf } from '../helpers/machine.ts'
import { freePort } from '../helpers/ports.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

/**
 * The script of the images as a node runs it, with real curl and openssl, in each shell that images have, against the boot listener
 * over TLS; and relying parties that know nothing of us but the issuer's URL and its CA.
 */
const script = join(import.meta.dirname, '../../images/lib/identity.sh')
const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
const absent = ['curl', 'openssl'].filter((name) => !has(name))
const needs = {
  skip: absent.length > 0 && process.env.PAWL_REQUIRE !== 'all' && `${absent.join(', ')} not installed`,
}
const shells: readonly (readonly [string, ...string[]])[] = has('busybox')
  ? [['sh'], ['busybox', 'ash']]
  : [['sh']]
const limits = {
  maxBodyBytes: 65_536,
  requestTimeoutSeconds: 15,
  idleTimeoutSeconds: 15,
  maxConnections: 100,
}

interface Site {
  readonly world: World
  readonly url: string
  readonly folder: string
  readonly ca: string
  readonly app: FastifyInstance
  readonly secret: string
}

/** A boot listener on a port of this machine, with a certificate of its own, whose clock is the machine's. */
async function listen(t: Test, openWorld: OpenWorld, lifetimeSeconds = 3600): Promise<Site> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-identity-'))
  const [key, ca] = [join(folder, 'server.key'), join(folder, 'ca.crt')]
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=test']
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      ...ec,
      '-days',
      '2',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-keyout',
      key,
      '-out',
      ca,
    ],
    { stdio: 'ignore' },
  )
  const port = await freePort()
  const url = `https://127.0.0.1:${port}`
  const world = await openWorld({ settings: { publicUrl: url } })
  world.clock.advance((Date.now() - world.clock.now().getTime()) / 1000)
  const secret = await storeDemoFleet(world)
  const audiences = ['https://vault.example.test/v1', 'cluster']
  await storeProfile(world, { ...demoProfile, identity: { audiences, lifetimeSeconds } })
  const app = buildBootListener(openStory(world.context), {
    tls: { key: readFileSync(key), cert: readFileSync(ca) },
    log: pino({ level: 'silent' }),
    limits,
    trustedProxies: [],
    artifacts: openArtifactCache(await openArtifactStore(join(folder, 'artifacts'))),
  })
  await app.listen({ host: '127.0.0.1', port })
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { world, url, folder, ca, app, secret }
}

interface Ran {
  readonly code: number
  readonly out: string
  readonly said: string
}

/** Runs the script as its node. */
function run(
  { folder }: Site,
  [shell, ...more]: readonly [string, ...string[]],
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  file = script,
): Promise<Ran> {
  const options = {
    env: { PATH: process.env.PATH ?? '', PAWL_IDENTITY_DIR: join(folder, 'identity'), ...env },
    timeout: 60_000,
  }
  return new Promise((resolve) => {
    execFile(shell, [...more, file, ...args], options, (error, out, said) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, out, said }),
    )
  })
}

function writeHeaders({ folder }: Site, { report: token }: Learnt): string {
  const file = join(folder, 'report.headers')
  writeFileSync(file, `Authorization: Bearer ${token}\n`, { mode: 0o600 })
  return file
}

/** What a relying party asks with: it trusts the issuer's CA and nothing else. */
function trusting(
  ca: string,
): (
  input: string | URL,
  init?: { readonly headers?: Headers | Record<string, string> },
) => Promise<Response> {
  return (input, init) =>
    new Promise((resolve, reject) => {
      const headers = Object.fromEntries(new Headers(init?.headers))
      request(String(input), { ca: readFileSync(ca), headers }, (answer) => {
        const pieces: Buffer[] = []
        answer.on('data', (piece: Buffer) => pieces.push(piece))
        answer.on('end', () => {
          const type = answer.headers['content-type'] ?? ''
          resolve(
            new Response(Buffer.concat(pieces), {
              status: answer.statusCode ?? 0,
              headers: { 'content-type': type },
            }),
          )
        })
      })
        .on('error', reject)
        .end()
    })
}

const vault = 'https://vault.example.test/v1'

async function register(site: Site, shell: readonly [string, ...string[]]): Promise<void> {
  const learnt = await boot(site.world, machineOf(site.secret), 'stage3')
  const args = ['register', `${site.url}/v1/boot/node1`, site.ca, writeHeaders(site, learnt)]
  const { code, said } = await run(site, shell, args)
  if (code !== 0) throw new Error(said)
}

function nameAudiences({ world }: Site, audiences: string[]): Promise<unknown> {
  return storeProfile(world, { ...demoProfile, identity: { audiences, lifetimeSeconds: 3600 } })
}

/** Renews until it would sleep so many times: the last one ends it. What is away is not asked twice. */
async function keep(
  site: Site,
  shell: readonly [string, ...string[]],
  times: number,
  env: Readonly<Record<string, string>> = {},
): Promise<Ran & { readonly slept: string[] }> {
  const slept = join(site.folder, 'slept')
  writeFileSync(slept, '')
  const sleep = `sleep() { echo "$1" >>'${slept}'; [ "$(wc -l <'${slept}')" -lt ${times} ] || exit 9; }`
  const patched = join(site.folder, 'identity.sh')
  writeFileSync(patched, readFileSync(script, 'utf8').replace('set -u\n', `set -u\n${sleep}\n`))
  const ran = await run(site, shell, ['keep'], { PAWL_IDENTITY_RETRY_SECONDS: '0', ...env }, patched)
  return { ...ran, slept: readFileSync(slept, 'utf8').split('\n').filter(Boolean) }
}

/** Runs the agent's own step. Its `fail`, which reports and reboots, is a line here. */
function getIdentity(
  { folder, url, ca }: Site,
  [shell, ...more]: readonly [string, ...string[]],
): Promise<{ readonly said: string; readonly audiences: string }> {
  const stage3 = join(import.meta.dirname, '../../images/filesystem/stage3.sh')
  const agent = readFileSync(stage3, 'utf8').replace(/^\. .*$/m, '')
  execFileSync('mkdir', ['-p', join(folder, 'bin')])
  writeFileSync(
    join(folder, 'bin/pawl-identity'),
    `#!/bin/sh\nexec ${[shell, ...more].join(' ')} ${script} "$@"\n`,
    {
      mode: 0o755,
    },
  )
  if (ca !== join(folder, 'ca.crt')) throw new Error('the agent has its CA in ca.crt')
  const steps = `${agent}
say() { echo "$*"; }
fail() { echo "FAILED $1"; exit 1; }
AUDIENCES='cluster ${vault}'
get_identity
printf %s "$AUDIENCES" >"$RUN/given"`
  rmSync(join(folder, 'given'), { force: true })
  const env = {
    ...{ PATH: `${join(folder, 'bin')}:${process.env.PATH}`, PAWL_IDENTITY_DIR: join(folder, 'identity') },
    ...{ PAWL_IDENTITY_RETRY_SECONDS: '0', RUN: folder, BASE: `${url}/v1/boot/node1` },
  }
  return new Promise((resolve) => {
    execFile(shell, [...more, '-u', '-c', steps], { env, timeout: 60_000 }, (_error, said) => {
      const given = join(folder, 'given')
      resolve({ said, audiences: existsSync(given) ? readFileSync(given, 'utf8') : 'none' })
    })
  })
}

function documentsOf({ folder }: Site): string[] {
  return readdirSync(join(folder, 'identity'))
    .filter((name) => name.endsWith('.jwt'))
    .sort()
}

/** The audiences that `keep` renews. */
function renewed({ folder }: Site): string[] {
  const audiences = join(folder, 'identity/audiences')
  return readdirSync(audiences).map((name) => readFileSync(join(audiences, name), 'utf8').trim())
}

/** A curl that does `then` behind its own work, once; $RUN is the folder of the run that asked. */
function curlThen({ folder }: Site, then: string): Readonly<Record<string, string>> {
  const bin = join(folder, 'curl')
  rmSync(bin, { recursive: true, force: true })
  mkdirSync(bin)
  const real = execFileSync('sh', ['-c', 'command -v curl'], { encoding: 'utf8' }).trim()
  writeFileSync(
    join(bin, 'curl'),
    `#!/bin/sh
${real} "$@"
code=$?
mkdir '${bin}/done' 2>/dev/null || exit $code
for word; do case $word in */.run.*/answer) RUN=\${word%/answer} ;; esac; done
{ ${then}; } >&2
exit $code
`,
    { mode: 0o755 },
  )
  return { PATH: `${bin}:${process.env.PATH}` }
}

/** What runs that are not over, or were killed, have written aside. */
function leftovers({ folder }: Site): string[] {
  return readdirSync(join(folder, 'identity')).filter((name) => name.startsWith('.'))
}

/** For whom the document of an audience is, by its file. */
async function forWhom(site: Site, audience: string): Promise<unknown> {
  const { out } = await run(site, ['sh'], ['print', audience])
  return JSON.parse(Buffer.from(out.split('.')[1] ?? '', 'base64url').toString()).aud
}

await forEachDatabase(t, async (t, openWorld) => {
  for (const shell of shells)
    for (const type of ['p256', 'ed25519'])
      await t.test(
        `${shell.join(' ')} makes a key of ${type}; a relying party takes its document`,
        needs,
        async (t) => {
          const site = await listen(t, openWorld)
          const { world, url, ca, secret } = site
          const learnt = await boot(world, machineOf(secret), 'stage3')
          const env = { PAWL_IDENTITY_KEY: type }
          const base = `${url}/v1/boot/node1`
          const headers = writeHeaders(site, learnt)
          const registered = await run(site, shell, ['register', base, ca, headers], env)
          t.match(registered, { code: 0, said: /the key is registered/ })
          const again = await run(site, shell, ['register', base, ca, headers], env)
          t.equal(again.code, 0, 'once more is the same key')
          for (let n = 0; n < 2; n += 1)
            t.match(await run(site, shell, ['fetch', 'https://vault.example.test/v1', 'cluster']), {
              code: 0,
              said: '',
            })
          const files = readdirSync(join(site.folder, 'identity')).sort()
          t.same(files, [
            ...['audiences', 'base', 'ca.crt', 'cluster.jwt', 'granted'],
            ...['https___vault.example.test_v1.jwt', 'key.pem'],
          ])
          for (const name of files)
            t.equal(statSync(join(site.folder, 'identity', name)).mode & 0o77, 0, `${name} is root's alone`)
          const { out: token } = await run(site, shell, ['print', 'https://vault.example.test/v1'])

          const fetching = trusting(ca)
          const found = await discovery(new URL(url), 'vault', undefined, None(), { [oidcFetch]: fetching })
          const {
            jwks_uri: keysUrl = '',
            issuer,
            id_token_signing_alg_values_supported: algorithms,
          } = found.serverMetadata()
          t.equal(issuer, url)
          t.same(algorithms, ['ES256'])
          const keys = createRemoteJWKSet(new URL(keysUrl), { [customFetch]: fetching })
          const wanted = { issuer, audience: 'https://vault.example.test/v1', algorithms: ['ES256'] }
          const { payload } = await jwtVerify(token, keys, wanted)
          t.match(payload, {
            sub: 'node:node1',
            session: learnt.session,
            profile: 'demo',
            cnf: { jkt: /^[\w-]{43}$/ },
          })
          await t.rejects(jwtVerify(token, keys, { ...wanted, audience: 'cluster' }), {
            code: 'ERR_JWT_CLAIM_VALIDATION_FAILED',
          })
          const forged = `${token.slice(0, -8)}${token.endsWith('AAAAAAAA') ? 'BBBBBBBB' : 'AAAAAAAA'}`
          await t.rejects(jwtVerify(forged, keys, wanted), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' })
        },
      )

  await t.test('a node whose clock is wrong follows the server', needs, async (t) => {
    const site = await listen(t, openWorld)
    site.world.clock.advance(0)
    const learnt = await boot(site.world, machineOf(site.secret), 'stage3')
    const args = ['register', `${site.url}/v1/boot/node1`, site.ca, writeHeaders(site, learnt)]
    // A date(1) that is ten minutes behind stands for the machine's clock.
    const folder = join(site.folder, 'bin')
    execFileSync('mkdir', [folder])
    writeFileSync(join(folder, 'date'), '#!/bin/sh\necho $(($(/bin/date +%s) - 600))\n', { mode: 0o755 })
    const env = { PATH: `${folder}:${process.env.PATH}` }
    const ran = await run(site, ['sh'], args, env)
    t.match(ran, { code: 0, said: /the clock differs from the server's by (599|600|601) s/ })
    t.match(await run(site, ['sh'], ['fetch', 'cluster'], env), { code: 0 })
  })

  await t.test('it stops when the server refuses, and waits while the server is away', needs, async (t) => {
    const site = await listen(t, openWorld)
    const { world, secret, url, ca } = site
    const fetching = () => run(site, ['sh'], ['fetch', 'cluster'], { PAWL_IDENTITY_RETRY_SECONDS: '0' })
    t.match(await fetching(), { code: 1, said: /no key is registered/ })
    const learnt = await boot(world, machineOf(secret), 'stage3')
    const headers = writeHeaders(site, learnt)
    const wrong = writeHeaders(site, { ...learnt, report: 'x'.repeat(44) })
    const register = () => run(site, ['sh'], ['register', `${url}/v1/boot/node1`, ca, headers])
    t.match(await register(), { code: 3, said: /the server refused \(403\)/ })
    t.equal(wrong, headers)
    writeHeaders(site, learnt)
    t.match(await register(), { code: 0 })
    t.match(await run(site, ['sh'], ['fetch', 'other']), { code: 3 })
    t.match(await fetching(), { code: 0 })
    await world.context.storage.db.updateTable('nodes').set({ state: 'disabled' }).execute()
    t.match(await run(site, ['sh'], ['keep']), { code: 3, said: /the server refused/ })
    t.ok(existsSync(join(site.folder, 'identity/cluster.jwt')), 'what was given stays until it ends')
    await site.app.close()
    t.match(await fetching(), { code: 1, said: /no answer/ })
    t.match(await run(site, ['sh'], []), { code: 2, said: /pawl-identity register BASE/ })
  })

  for (const shell of shells)
    await t.test(`${shell.join(' ')} renews what is left of its audiences`, needs, async (t) => {
      const site = await listen(t, openWorld)
      await register(site, shell)
      t.match(await run(site, shell, ['fetch', 'cluster', vault]), { code: 0 })
      await nameAudiences(site, [vault])
      const before = (await run(site, shell, ['print', vault])).out
      t.match(await keep(site, shell, 1), {
        said: /refused \(403\)[\s\S]*no documents for cluster any more/,
        slept: ['2400'],
      })
      t.same(renewed(site), [vault])
      t.not((await run(site, shell, ['print', vault])).out, before, 'the other one was renewed')
      await nameAudiences(site, ['another'])
      t.match(await keep(site, shell, 1), { code: 3, said: /the server refused all of them/, slept: [] })
    })

  for (const shell of shells)
    await t.test(
      `${shell.join(' ')}: fetch and keep at once, and each document is whole`,
      needs,
      async (t) => {
        const site = await listen(t, openWorld)
        await register(site, shell)
        const other = `${shell.join(' ')} ${script}`
        // Between the answer of one and the reading of it the other one asks, and reads its own.
        const fetched = await run(
          site,
          shell,
          ['fetch', 'cluster'],
          curlThen(site, `${other} fetch ${vault}`),
        )
        t.match(fetched, { code: 0, said: '' })
        t.equal(await forWhom(site, 'cluster'), 'cluster')
        t.equal(await forWhom(site, vault), vault)
        t.same(renewed(site).sort(), ['cluster', vault])
        const before = await run(site, shell, ['print', 'cluster'])
        const kept = await keep(site, shell, 1, curlThen(site, `${other} fetch cluster ${vault}`))
        t.match(kept, { slept: ['2400'], said: '' })
        t.equal(await forWhom(site, 'cluster'), 'cluster')
        t.equal(await forWhom(site, vault), vault)
        t.not((await run(site, shell, ['print', 'cluster'])).out, before.out)
        const many = Array.from({ length: 4 }, () => run(site, shell, ['fetch', 'cluster', vault]))
        for (const one of await Promise.all(many)) t.match(one, { code: 0, said: '' })
        t.same(renewed(site).sort(), ['cluster', vault], 'each is renewed once')
        t.same(leftovers(site), [])
      },
    )

  for (const shell of shells)
    await t.test(`${shell.join(' ')}: one that is killed in the middle spoils nothing`, needs, async (t) => {
      const site = await listen(t, openWorld)
      await register(site, shell)
      t.match(await run(site, shell, ['fetch', 'cluster']), { code: 0 })
      const before = await run(site, shell, ['print', 'cluster'])
      const killed = await run(site, shell, ['fetch', 'cluster'], curlThen(site, 'kill -9 "${RUN##*.run.}"'))
      t.equal(killed.code, -1)
      t.equal(leftovers(site).length, 1, 'what it had begun is still there')
      t.same(await run(site, shell, ['print', 'cluster']), before, 'the document of before is whole')
      t.match(await run(site, shell, ['fetch', 'cluster']), { code: 0, said: '' })
      t.not((await run(site, shell, ['print', 'cluster'])).out, before.out)
      t.same(leftovers(site), [], 'the next one tidies up')
    })

  await t.test('what is refused while it is given to a fetch is renewed on', needs, async (t) => {
    const site = await listen(t, openWorld)
    await register(site, ['sh'])
    t.match(await run(site, ['sh'], ['fetch', 'cluster', vault]), { code: 0 })
    await nameAudiences(site, [vault])
    const given = join(site.folder, 'identity/audiences/cluster')
    const file = `printf cluster >"$RUN/given"; mv "$RUN/given" '${given}'`
    t.match(await keep(site, ['sh'], 1, curlThen(site, file)), { slept: ['60'] })
    t.same(renewed(site).sort(), ['cluster', vault])
  })

  await t.test('it goes on renewing behind a server that was away for long', needs, async (t) => {
    const site = await listen(t, openWorld)
    await register(site, ['sh'])
    t.match(await run(site, ['sh'], ['fetch', 'cluster', vault]), { code: 0 })
    await site.app.close()
    t.match(await keep(site, ['sh'], 2), { said: /no answer/, slept: ['60', '60'] })
  })

  for (const shell of shells)
    await t.test(`${shell.join(' ')}: a boot goes on when its profile is changed`, needs, async (t) => {
      const site = await listen(t, openWorld)
      const learnt = await boot(site.world, machineOf(site.secret), 'stage3')
      writeHeaders(site, learnt)
      await nameAudiences(site, [vault, 'new'])
      t.match(await getIdentity(site, shell), {
        said: `going on without identity documents for cluster: the profile does not name it any more
identity documents for ${vault} new
`,
        audiences: `${vault} new`,
      })
      t.same(documentsOf(site), ['https___vault.example.test_v1.jwt', 'new.jwt'])
      const again = await boot(site.world, machineOf(site.secret), 'stage3')
      writeHeaders(site, again)
      await storeProfile(site.world, demoProfile)
      rmSync(join(site.folder, 'identity'), { recursive: true })
      t.match(await getIdentity(site, shell), {
        said: /^going on without an identity: the server refused it[^\n]*\n$/,
        audiences: '',
      })
      t.same(documentsOf(site), [])
      rmSync(join(site.folder, 'identity'), { recursive: true })
      await site.app.close()
      t.match(await getIdentity(site, shell), { said: /^FAILED no identity: [^\n]*no answer/ })
    })

  await t.test('what is published may be kept, and nothing else', async (t) => {
    const { app } = await listen(t, openWorld)
    const configuration = await app.inject('/.well-known/openid-configuration')
    t.equal(configuration.headers['cache-control'], 'public, max-age=3600')
    const keys = await app.inject('/.well-known/jwks.json')
    t.match(keys, {
      statusCode: 200,
      headers: { 'cache-control': 'public, max-age=300', 'content-type': /json/ },
    })
    t.match(keys.json(), { keys: [{ kty: 'EC', crv: 'P-256', alg: 'ES256', use: 'sig' }] })
    t.notMatch(keys.body, '"d"')
    const refused = await app.inject({
      method: 'POST',
      url: '/v1/boot/node1/identity',
      headers: { dpop: 'x' },
    })
    t.match(refused, { statusCode: 403, body: 'refused\n', headers: { 'cache-control': 'no-store' } })
    const twice = await app.inject({
      method: 'POST',
      url: '/v1/boot/node1/identity',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload: 'audience=a&audience=b',
    })
    t.equal(twice.statusCode, 400)
    t.equal((await app.inject({ method: 'HEAD', url: '/v1/boot/node1/identity' })).statusCode, 404)
  })
})
