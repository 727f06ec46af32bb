import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'
import { enrol } from '../../src/boot/enrol.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { parseManifest } from '../../src/domain/image.ts'
import { forgetAnswers, onceIn } from '../../src/fleet/idempotency.ts'
import type { ClientCertificateIssuer } from '../../src/fleet/operator-certificates.ts'
import { openApiOf } from '../../src/http/openapi.ts'
import { signImage } from '../../src/pki/code-signing.ts'
import { makeSigningRequest } from '../../src/pki/x509.ts'
import { dropAnswers } from '../../src/storage/idempotent-answers.ts'
import type { Role } from '../../src/storage/tables.ts'
import { demoProfile, publishImage, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { listen, send } from '../helpers/operator-listener.ts'
import { newSigner, rsaKey, signingKeyOf, testPublisher } from '../helpers/signing.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'

const key = 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'

/** A CA's answer that is another each time. */
let issued = 0
const issueClientCertificate: ClientCertificateIssuer = async ({ notAfter }) => {
  issued += 1
  return { certificate: `certificate ${issued}`, fingerprint: String(issued).padStart(64, '0'), notAfter }
}

/** The same of nodes, with a certificate that can be read. */
const issueNodeCertificate: ClientCertificateIssuer = async (asked) => ({
  ...(await issueClientCertificate(asked)),
  certificate: (await testPublisher()).certificates,
})

async function open(t: Parameters<typeof listen>[0], openWorld: OpenWorld) {
  const here = await listen(t, openWorld, { issueClientCertificate, issueNodeCertificate })
  const ask = (
    role: Role,
    url: string,
    body: unknown,
    given: string | null = key,
    method = 'POST',
  ): Promise<LightMyRequestResponse> =>
    send(here.app, here.tokens[role], method, url, body, given === null ? {} : { 'idempotency-key': given })
  return { here, ask, db: here.world.context.storage.db }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses what is no key, and a key that came with another request', async (t) => {
    const { ask } = await open(t, openWorld)
    for (const bad of [
      '',
      'short',
      '"short"',
      'x'.repeat(256),
      'a b c d e f g h i j',
      `${key}"`,
      'ä'.repeat(20),
    ]) {
      const answer = await ask('operator', 'nodes', { name: 'a' }, bad)
      t.match(
        answer.json(),
        { status: 400, code: 'invalid', detail: /Idempotency-Key is not 16 to 255/ },
        bad,
      )
    }
    t.equal((await ask('operator', 'nodes', { name: 'a' })).statusCode, 201)
    const others: [string, unknown][] = [
      ['nodes', { name: 'b' }],
      ['nodes', { name: 'a', serial: 'X' }],
      ['nodes/a/secret', undefined],
    ]
    for (const [url, body] of others) {
      t.match((await ask('operator', url, body)).json(), {
        status: 422,
        code: 'idempotency-key-reused',
        hint: /make a new key/,
      })
    }
    t.equal(
      (await ask('viewer', 'nodes', { name: 'a' })).statusCode,
      403,
      'who may not ask is told no answer',
    )
  })

  await t.test('a request sent again is done once, and answered as before', async (t) => {
    const { ask, here } = await open(t, openWorld)
    const body = { name: 'a', labels: { rack: '1', row: '2' } }
    const first = await ask('operator', 'nodes', body)
    t.equal(first.statusCode, 201)
    await ask('operator', 'nodes/a', { serial: 'X' }, null, 'PATCH')
    for (const [given, again] of [
      [key, body],
      [`"${key}"`, body],
      [key, { labels: { row: '2', rack: '1' }, name: 'a' }],
    ] as const) {
      const answer = await ask('operator', 'nodes', again, given)
      t.equal(answer.statusCode, 201)
      t.equal(answer.body, first.body, 'the first answer, not what is there now')
    }
    t.strictSame(await here.world.kinds({ node: 'a' }), ['node-added', 'node-changed'])
    const without = await ask('operator', 'nodes', body, null)
    t.match(without.json(), { status: 409, code: 'exists' })
    const other = await ask('admin', 'nodes', body)
    t.match(other.json(), { status: 409, code: 'exists' }, 'a key is its operator’s')
  })

  await t.test('what was refused leaves the key free', async (t) => {
    const { ask, db } = await open(t, openWorld)
    t.equal((await ask('operator', 'nodes', { name: 'a', profile: 'none' })).statusCode, 404)
    t.strictSame(await db.selectFrom('idempotent_answers').selectAll().execute(), [])
    t.equal((await ask('operator', 'nodes', { name: 'a' })).statusCode, 201)
  })

  await t.test('of twenty at once one does it, and all get its answer', async (t) => {
    const { ask, here } = await open(t, openWorld)
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => ask('admin', 'operator-tokens', { name: 'ci', role: 'viewer' })),
    )
    t.strictSame(new Set(answers.map(({ statusCode }) => statusCode)), new Set([201]))
    t.equal(new Set(answers.map(({ body }) => body)).size, 1)
    const created = await here.world.events({ kind: 'operator-created' })
    t.equal(created.filter(({ detail }) => detail.name === 'ci').length, 1)
  })

  await t.test('a secret is shown again to who has the key, and the database does not have it', async (t) => {
    const { ask, here } = await open(t, openWorld)
    await storeDemoFleet(here.world)
    const token = (await ask('admin', 'operator-tokens', { name: 'ci', role: 'viewer' })).json()
      .token as string
    const secret = (await ask('operator', 'nodes/node1/secret', undefined)).json().secret as string
    t.equal((await ask('admin', 'operator-tokens', { name: 'ci', role: 'viewer' })).json().token, token)
    t.equal((await ask('operator', 'nodes/node1/secret', undefined)).json().secret, secret)
    t.equal((await send(here.app, token, 'GET', 'whoami')).statusCode, 200)
    const dump = await here.world.dump()
    for (const hidden of [token, token.slice(12), secret, secret.slice(12), key])
      t.notOk(dump.includes(hidden), 'in no column of no table')
    // A key that can be guessed opens none of them either: each is sealed under the server's key first.
    const rows = await here.world.context.storage.db.selectFrom('idempotent_answers').selectAll().execute()
    for (const { answer, key_hash } of rows) {
      t.match(answer, /^sealed:/)
      t.throws(() => settingsSealer(Buffer.alloc(32, 8)).open(answer ?? '', key_hash), {
        code: 'key-unreadable',
      })
    }
    t.notMatch(here.logged.join(''), key)
  })

  await t.test('an answer is kept for a day', async (t) => {
    const { ask, here, db } = await open(t, openWorld)
    await ask('operator', 'nodes', { name: 'a' })
    here.world.clock.advance(24 * 3600 - 1)
    t.equal((await ask('operator', 'nodes', { name: 'a' })).statusCode, 201)
    here.world.clock.advance(1)
    t.equal((await ask('operator', 'nodes', { name: 'a' })).statusCode, 409)
    t.equal((await ask('operator', 'nodes', { name: 'b' })).statusCode, 201, 'the key is free')
    here.world.clock.advance(24 * 3600)
    await forgetAnswers(here.world.context)
    t.strictSame(await db.selectFrom('idempotent_answers').selectAll().execute(), [])
  })

  await t.test('of too many answers the oldest is forgotten', async (t) => {
    const { here, db } = await open(t, openWorld)
    const { storage, sealer } = here.world.context
    const answer = (n: number, actor = 'operator:a') =>
      storage.transaction((tx) =>
        onceIn(
          { tx, now: here.world.clock.now(), sealer },
          { actor, idempotency: { key: `${key}-${n}`, request: 'x' } },
          async () => n,
        ),
      )
    await answer(0, 'operator:b')
    for (const n of [1, 2, 3, 4]) {
      here.world.clock.advance(1)
      await answer(n)
    }
    await storage.transaction((tx) => dropAnswers(tx, 'operator:a', '', 2))
    const left = await db
      .selectFrom('idempotent_answers')
      .select(['actor', 'created_at'])
      .orderBy('created_at')
      .execute()
    t.strictSame(
      left.map((row) => `${row.actor} ${row.created_at.slice(17, 19)}`),
      ['operator:b 00', 'operator:a 03', 'operator:a 04'],
    )
  })

  await t.test('every route that says it takes a key does its work once', async (t) => {
    const { ask, here } = await open(t, openWorld)
    const { world } = here
    await storeDemoFleet(world)
    for (const version of ['2', '3']) await publishImage(world, `small@${version}`, 'c', false)
    await storeProfile(world, {
      ...demoProfile,
      name: 'web',
      boot: { ...demoProfile.boot, stage3: 'full/stable' },
    })
    await storeNode(world, { name: 'node2', profile: 'web' })
    await storeProfile(world, { ...demoProfile, name: 'plain', evidence: ['secret'] })
    for (const [url, version] of [
      ['channels/small/stable', '1'],
      ['channels/small/stable', '2'],
      ['channels/full/stable', '1'],
    ])
      await ask('admin', url ?? '', { version }, null, 'PUT')
    const leave = {
      ...{ kind: 'webhook', url: 'https://hooks.example.test/leave' },
      secret: `whsec_${Buffer.alloc(24, 1).toString('base64')}`,
    }
    await ask('admin', 'profiles/leaver', { ...demoProfile, name: 'leaver', leave }, null, 'PUT')
    await storeNode(world, { name: 'node3', profile: 'leaver' })
    const [kernel, initramfs] = [smallKernel(), smallFile('initramfs')]
    for (const { digest, bytes } of [kernel, initramfs])
      await here.app.inject({
        method: 'PUT',
        url: `/api/v1/artifacts/sha256/${digest}`,
        headers: { authorization: `Bearer ${here.tokens.admin}` },
        payload: bytes,
      })
    const manifest = smallManifest(kernel, initramfs, { version: '9' })
    const fields = { mac: '52:54:00:12:34:56', uuid: '564d1234-0000-4000-8000-000000000001' }
    await enrol(world.context, { host: undefined, source: '192.0.2.77', request: 'enrol', fields })
    const [pending] = (await ask('admin', 'pending', undefined, null, 'GET')).json().items
    const signer = await newSigner()
    const bodies: Readonly<Record<string, [string, unknown]>> = {
      addNode: ['nodes', { name: 'new' }],
      leaveNode: ['nodes/node3/leave', undefined],
      reinstallNodes: ['reinstall', { nodes: ['node1'] }],
      createAutoApproval: [
        'auto-approvals',
        {
          name: 'rack1',
          sources: ['192.0.2.0/24'],
          serials: ['S1', 'S2'],
          profile: 'plain',
          forSeconds: 3600,
        },
      ],
      issueOperatorCertificate: [
        'operator-certificates',
        { name: 'ci', role: 'viewer', request: await makeSigningRequest(rsaKey(), 'ci') },
      ],
      issueNodeSecret: ['nodes/node1/secret', undefined],
      issueNodeCertificate: [
        'nodes/node1/certificates',
        { request: await makeSigningRequest(rsaKey(), 'node1') },
      ],
      approveMachine: [`pending/${pending?.code}/approve`, { name: 'found', profile: 'demo' }],
      publishImage: ['images', { manifest }],
      signImage: [
        'images/small/9/signatures',
        signImage(signingKeyOf(await testPublisher()), parseManifest(manifest)),
      ],
      recordImageTest: ['images/small/9/tests', { passed: true, detail: { seconds: 1.5 } }],
      registerPublisher: ['publishers', { name: 'lab', certificates: signer.certificates }],
      issuePublisher: ['publishers/issue', { name: 'ci', request: await makeSigningRequest(rsaKey(), 'ci') }],
      createOperatorToken: ['operator-tokens', { name: 'ci', role: 'viewer' }],
      rollBackChannel: ['channels/small/stable/rollback', {}],
      startRollout: ['rollouts', { channel: 'full/stable', version: '2', waves: ['100%'] }],
      createWebhook: [
        'webhooks',
        { name: 'hook', url: 'https://receiver.example.test/', kinds: ['node-added'] },
      ],
    }
    const taking = Object.values(openApiOf(here.app).paths)
      .flatMap((operations) => Object.values(operations))
      .filter(({ parameters = [] }) =>
        parameters.some(({ $ref }) => $ref === '#/components/parameters/IdempotencyKey'),
      )
      .map(({ operationId }) => operationId ?? '')
    t.strictSame(taking.sort(), Object.keys(bodies).sort(), 'all of them are here')
    for (const [operation, [url, body]] of Object.entries(bodies)) {
      const given = `${operation}-0123456789`
      const first = await ask('admin', url, body, given)
      t.ok(first.statusCode < 300, `${operation}: ${first.statusCode} ${first.body}`)
      const events = (await world.events()).length
      world.clock.advance(1)
      const again = await ask('admin', url, body, given)
      t.strictSame([again.statusCode, again.body], [first.statusCode, first.body], operation)
      t.equal((await world.events()).length, events, `${operation}: nothing was done again`)
    }
  })
})
