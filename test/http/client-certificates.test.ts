import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect, type SecureVersion } from 'node:tls'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { addSeconds } from '../../src/domain/clock.ts'
import { issueNodeCertificate, revokeNodeCertificate } from '../../src/fleet/node-certificates.ts'
import { removeNode } from '../../src/fleet/nodes.ts'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import type { CertificatesAsked } from '../../src/http/client-certificate.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { createClientAuthorities, openClientAuthority } from '../../src/pki/client-authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { generateKey, makeCertificate, makeSigningRequest } from '../../src/pki/x509.ts'
import { demoProfile, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

/**
 * Client certificates over real TLS: what a connection shows is what the listener sees. Which refusal each leads to at which
 * stage is tested over the whole table in test/story/evidence.test.ts.
 */
const by = { actor: 'operator:test', source: null, role: 'operator' } as const
const now = new Date() // TLS looks at the real clock
const shared = t.testdir({ data: { pki: {} } })
const dataDir = join(shared, 'data')
await createAuthority(dataDir, now)
await createClientAuthorities(dataDir, now)
const authority = openAuthority(dataDir)
const nodes = openClientAuthority(dataDir, 'node')
const names = ['127.0.0.1']
const serverTls = await loadTls(authority, { kind: 'boot', names, now, clientCa: nodes.certificate })
const ca = authority.rootCertificate
const key = await generateKey()
const request = await makeSigningRequest(key, 'whatever it says of itself')
const cache = openArtifactCache(await openArtifactStore(join(shared, 'artifacts')))

const absent = (program: string): { skip?: string } =>
  spawnSync(program, ['version']).error === undefined || process.env.PAWL_REQUIRE === 'all'
    ? {}
    : { skip: `${program} is not installed` }

interface Site {
  readonly world: World
  readonly port: number
  /** A token of stage 2 that nothing has redeemed. */
  readonly token: string
  /** The cause of the last refusal on record. */
  cause(): Promise<unknown>
}

async function open(t: Test, openWorld: OpenWorld, asked?: CertificatesAsked): Promise<Site> {
  const world = await openWorld()
  // The rows go by the world's clock, TLS by the real one.
  world.clock.advance((now.getTime() - world.clock.now().getTime()) / 1000)
  const secret = await storeDemoFleet(world)
  await storeNode(world, { name: 'node2' })
  await storeProfile(world, { ...demoProfile, evidence: ['secret', 'certificate'] })
  const { stage2: token } = await boot(world, machineOf(secret), 'handover')
  const app = buildBootListener(openStory(world.context), {
    tls: serverTls.options(),
    log: pino({ level: 'silent' }),
    limits: { maxBodyBytes: 65_536, requestTimeoutSeconds: 15, idleTimeoutSeconds: 15, maxConnections: 100 },
    trustedProxies: [],
    artifacts: cache,
    ...(asked === undefined ? {} : { clientCertificates: asked }),
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
  })
  return {
    world,
    token,
    port: (app.server.address() as AddressInfo).port,
    cause: async () => (await world.events({ kind: 'refused' })).at(-1)?.detail.cause,
  }
}

/** A certificate of `node1` that counts. */
async function certify(world: World, name = 'node1') {
  const made = await issueNodeCertificate(world.context, nodes.issue, by, name, { request })
  return { key, cert: made.certificate, fingerprint: made.fingerprint }
}

interface Client {
  readonly key?: string
  readonly cert?: string
  readonly version?: SecureVersion
  readonly session?: Buffer
}

/** Redeems stage 2 on a connection of its own; what came of it, and the session to go on with. */
async function redeem({ port, token }: Site, { key, cert, version = 'TLSv1.3', session }: Client) {
  const versions = { minVersion: version, maxVersion: version }
  const socket = connect({ port, host: '127.0.0.1', ca, key, cert, session, ...versions })
  let ticket: Buffer | undefined
  socket.on('session', (given) => {
    ticket = given
  })
  await once(socket, 'secureConnect')
  const resumed = socket.isSessionReused()
  socket.write(
    `POST /v1/boot/node1/stage2 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
  )
  let text = ''
  for await (const chunk of socket) text += chunk
  return { status: Number(text.split(' ')[1]), resumed, ticket: ticket ?? socket.getSession() }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('what is wrong with a certificate is told apart, and answered alike', async (t) => {
    const site = await open(t, openWorld)
    const { world } = site
    const day = 86_400
    const issue = (notAfter: Date, when = now) => nodes.issue({ name: 'node1', request, now: when, notAfter })
    const old = await issue(addSeconds(now, -day), addSeconds(now, -3 * day))
    const expired = {
      ...{ fingerprint: old.fingerprint, node: 'id-node1', key_type: 'RSA 2048' },
      ...{ issued_at: now.toISOString(), issued_by: 'x', expires_at: old.notAfter.toISOString() },
      ...{ revoked_at: null, revoked_by: null, last_used_at: null, last_used_from: null },
    }
    await world.context.storage.db.insertInto('node_certificates').values(expired).execute()
    const revoked = await certify(world)
    await revokeNodeCertificate(world.context, by, 'node1', revoked.fingerprint)
    const operators = openClientAuthority(dataDir, 'operator')
    const operator = await operators.issue({ name: 'ci', request, now, notAfter: addSeconds(now, day) })
    const stranger = await makeCertificate({
      ...{ kind: 'client-root', commonName: 'Pawl nodes', names: [], key, now },
    })
    const strangerOld = await makeCertificate({
      ...{
        kind: 'client-root',
        commonName: 'Pawl nodes',
        names: [],
        key,
        now: addSeconds(now, -11 * 365 * day),
      },
    })
    const unlisted = await issue(addSeconds(now, day))
    await storeNode(world, { name: 'node3' })
    const removed = await certify(world, 'node3')
    await removeNode(world.context, by, 'node3')
    const listener = serverTls.options()
    const table: [string, string | undefined, string][] = [
      ['none', undefined, 'no-certificate'],
      ['one that it signed itself', stranger, 'certificate-other-ca'],
      ["an operator's", operator.certificate, 'certificate-other-ca'],
      ['one of our CA that is in no list', unlisted.certificate, 'certificate-unknown'],
      ['that of a node that was removed', removed.cert, 'certificate-unknown'],
      ["another node's", (await certify(world, 'node2')).cert, 'certificate-foreign'],
      ['a revoked one', revoked.cert, 'certificate-revoked'],
      ['an expired one', old.certificate, 'certificate-expired'],
      ["another CA's that has expired, which is not said to be ours", strangerOld, 'certificate-expired'],
    ]
    for (const [what, cert, cause] of table) {
      const { status } = await redeem(site, cert === undefined ? {} : { key, cert })
      t.equal(status, 403, what)
      t.equal(await site.cause(), cause, what)
    }
    t.type(listener.requestCert, 'boolean')
    t.equal((await redeem(site, await certify(world))).status, 200, 'none of them has spent the token')
  })

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    await t.test(`${version}: a resumed session shows its certificate again, or none`, async (t) => {
      const site = await open(t, openWorld, 'always')
      const without = await redeem(site, { version })
      t.equal(await site.cause(), 'no-certificate')
      // A session without a certificate stays one: it must not be taken for checked because it was resumed.
      const resume = ({ ticket }: { ticket: Buffer | undefined }) =>
        redeem(site, { version, ...(ticket === undefined ? {} : { session: ticket }) })
      const again = await resume(without)
      t.strictSame([again.resumed, again.status], [true, 403])
      t.equal(await site.cause(), 'no-certificate')
      const own = await certify(site.world)
      const first = await redeem(site, { version, ...own })
      t.strictSame([first.resumed, first.status], [false, 200])
      t.strictSame([(await resume(first)).resumed, await site.cause()], [true, 'spent-token'])
      await revokeNodeCertificate(site.world.context, by, 'node1', own.fingerprint)
      t.strictSame([(await resume(first)).resumed, await site.cause()], [true, 'certificate-revoked'])
    })
  }

  await t.test('a key of P-256 is as good, and its kind is told', absent('openssl'), async (t) => {
    const site = await open(t, openWorld)
    spawnSync('openssl', [
      ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=x'],
      ...['-keyout', join(shared, 'ec.key'), '-out', join(shared, 'ec.csr')],
    ])
    const asked = { request: readFileSync(join(shared, 'ec.csr'), 'utf8') }
    const issued = await issueNodeCertificate(site.world.context, nodes.issue, by, 'node1', asked)
    t.equal(issued.keyType, 'P-256')
    const own = { key: readFileSync(join(shared, 'ec.key'), 'utf8'), cert: issued.certificate }
    t.equal((await redeem(site, own)).status, 200)
  })

  await t.test(
    'curl shows key and certificate out of one file, as the agents do',
    absent('curl'),
    async (t) => {
      const site = await open(t, openWorld)
      const { cert } = await certify(site.world)
      writeFileSync(join(shared, 'node.pem'), key + cert)
      writeFileSync(join(shared, 'ca.crt'), ca)
      const file = join(shared, 'node.pem')
      const ask = async (...more: string[]): Promise<string> => {
        const args = ['-q', '-sS', '--tlsv1.3', '--cacert', join(shared, 'ca.crt'), ...more]
        args.push(
          '-X',
          'POST',
          '-H',
          `Authorization: Bearer ${site.token}`,
          '-w',
          '%{http_code}',
          '-o',
          '/dev/null',
        )
        const child = spawn('curl', [...args, `https://127.0.0.1:${site.port}/v1/boot/node1/stage2`])
        let out = ''
        child.stdout.on('data', (text) => {
          out += text
        })
        await once(child, 'close')
        return out
      }
      t.equal(await ask(), '403')
      t.equal(await site.cause(), 'no-certificate')
      t.equal(await ask('--cert', file, '--key', file), '200')
    },
  )

  await t.test(
    'who is asked: by default no client that speaks TLS 1.2 only',
    absent('openssl'),
    async (t) => {
      const table: [CertificatesAsked | undefined, boolean, boolean][] = [
        [undefined, false, true],
        ['tls1.3', false, true],
        ['always', true, true],
        ['never', false, false],
      ]
      for (const [asked, old, modern] of table) {
        const site = await open(t, openWorld, asked)
        const isAsked = async (version: string): Promise<boolean> => {
          const client = ['s_client', '-msg', version, '-connect', `127.0.0.1:${site.port}`]
          const child = spawn('openssl', client, { stdio: ['pipe', 'pipe', 'ignore'] })
          let out = ''
          child.stdout.on('data', (text) => {
            out += text
            if (out.includes('SSL-Session') || out.includes('Verification')) child.stdin.end('Q\n')
          })
          await once(child, 'close')
          t.match(out, 'Finished', `${asked} ${version}: the handshake was done`)
          return out.includes('CertificateRequest')
        }
        t.equal(await isAsked('-tls1_2'), old, `${asked}: TLS 1.2`)
        t.equal(await isAsked('-tls1_3'), modern, `${asked}: TLS 1.3`)
      }
    },
  )
})
