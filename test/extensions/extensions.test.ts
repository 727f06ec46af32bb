import { createHash } from 'node:crypto'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import t, { type Test } from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import { redeemEpoxy } from '../../src/boot/epoxy.ts'
import { askExtension, type ExtensionAnswer } from '../../src/boot/extension.ts'
import { extensionKeySet, tendExtensionKeys } from '../../src/boot/extension-keys.ts'
import { type RedeemedStage, redeem } from '../../src/boot/redeem.ts'
import { takeReport } from '../../src/boot/report.ts'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { epoxyBody, extensionLimits } from '../../src/domain/extension.ts'
import { parseProfile } from '../../src/domain/profile.ts'
import { openExtensionService } from '../../src/extensions/service.ts'
import type { ExtensionSettings } from '../../src/fleet/extension-settings.ts'
import { showExtension, showExtensionKeys } from '../../src/fleet/extension-view.ts'
import { applyExtension, removeExtension, rotateExtensionKey } from '../../src/fleet/extensions.ts'
import { disableNode } from '../../src/fleet/nodes.ts'
import { publishImage, storeNode, storeProfile } from '../helpers/fleet.ts'
import { type Receiver, startReceiver } from '../helpers/receiver.ts'
import { forEachDatabase, type OpenWorld, servedTemplates, type World } from '../helpers/world.ts'

const by = { actor: 'operator:test', source: '192.0.2.9', role: 'admin' } as const
const chain = 'https://images.example.com/{{VERSION}}'
const profile = {
  name: 'epoxy',
  tokens: 'epoxy',
  evidence: ['secret'],
  extensions: ['other', 'allocate_k8s_token'],
  boot: {
    imagesVersion: 'v1',
    chain: { 'stage1.ipxe': chain, 'stage1.json': chain, stage2: chain, stage3: chain },
  },
}
const allocated = {
  api_address: 'api.example.com:6443',
  token: 'abcdef.0123456789abcdef',
  ca_hash: `sha256:${'0'.repeat(64)}`,
}

interface Boot {
  readonly world: World
  readonly context: BootContext
  readonly kargs: Readonly<Record<string, string>>
  /** Asks with the token of this boot, or as said. */
  ask(
    options?: Partial<{ host: string; token: string; operation: string; rawQuery: string }>,
  ): Promise<ExtensionAnswer>
}

const tokenIn = (url = ''): string => url.split('/').at(url.includes('/extension/') ? -3 : -2) ?? ''

/** A node that has come to stage 2, and an extension at the receiver. */
async function booted(
  openWorld: OpenWorld,
  receiver: { readonly url: string; readonly ca: string | null },
  settings: Partial<ExtensionSettings> = {},
  { stage2 = true, resolve = async (): Promise<readonly string[]> => ['127.0.0.1'] } = {},
): Promise<Boot> {
  const world = await openWorld({
    settings: { extensionAllowedNetworks: [{ address: '127.0.0.1', prefixLength: 32 }] },
  })
  const context = { ...world.context, extensions: openExtensionService({ maxBootWork: 64, resolve }) }
  await storeProfile(world, profile)
  const addresses = [{ address: '192.0.2.12', prefixLength: 32 }]
  const secret = await storeNode(world, { name: 'n1', profile: 'epoxy', addresses })
  await applyExtension(context, by, 'allocate_k8s_token', {
    url: `${receiver.url}/v2/allocate_k8s_token?key=hunter2`,
    ca: receiver.ca,
    ...settings,
  })
  const asking = { host: 'n1', source: '192.0.2.12' }
  const answer = await serveStage1(context, {
    ...asking,
    request: 'stage1.json',
    format: 'json',
    fields: { secret },
  })
  const { kargs } = JSON.parse(answer?.body ?? '') as { kargs: Record<string, string> }
  if (stage2)
    await redeemEpoxy(context, {
      ...asking,
      request: 'stage2',
      stage: 'stage2',
      token: tokenIn(kargs['epoxy.stage2']),
    })
  const token = tokenIn(kargs['epoxy.allocate_k8s_token'])
  return {
    world,
    context,
    kargs,
    ask: (options = {}) =>
      askExtension(context, {
        ...asking,
        ...{ request: 'extension', token, operation: 'allocate_k8s_token', rawQuery: '' },
        ...options,
      }),
  }
}

const json = (body: unknown): { status: number; headers: Record<string, string>; body: string } => ({
  status: 200,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

async function service(t: Test): Promise<Receiver> {
  const receiver = await startReceiver(t)
  receiver.answer = () => json(allocated)
  return receiver
}

/** A server that does what no HTTP library does. */
async function rawServer(
  t: Test,
  serve: Parameters<typeof createServer>[1],
): Promise<{ url: string; ca: null }> {
  const server: Server = createServer(serve)
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, ca: null }
}

const refused = { code: 'refused' }

await t.test("the body is ePoxy's, byte for byte", async (t) => {
  const body = epoxyBody({
    hostname: 'mlab4.lga0t.measurement-lab.org',
    ipv4Address: '192.168.0.12',
    ipv6Address: '',
    lastBoot: new Date('2018-05-01T00:00:00Z'),
    rawQuery: 'p=somevalue&z=<other>',
  })
  t.equal(
    body,
    `{
    "v1": {
        "hostname": "mlab4.lga0t.measurement-lab.org",
        "ipv4_address": "192.168.0.12",
        "ipv6_address": "",
        "last_boot": "2018-05-01T00:00:00Z",
        "raw_query": "p=somevalue\\u0026z=\\u003cother\\u003e"
    }
}`,
  )
  const at = (time: string): string =>
    epoxyBody({ hostname: '', ipv4Address: '', ipv6Address: '', lastBoot: new Date(time), rawQuery: '' })
  t.match(at('2018-05-01T00:00:00.120Z'), '"2018-05-01T00:00:00.12Z"')
  t.match(at('2018-05-01T00:00:10.005Z'), '"2018-05-01T00:00:10.005Z"')
})

await t.test('a profile says what its nodes may ask, and that a join may come from it', async (t) => {
  const image = { stage2: 'small@1', stage3: 'full@1' }
  const join = { kind: 'extension', settings: { operation: 'allocate_k8s_token', answer: 'kubeadm' } }
  for (const [what, more, fault] of [
    [
      'a join from one it does not list',
      { joinFromExtension: true, boot: { ...image, join } },
      /extensions does not list/,
    ],
    [
      'without joinFromExtension',
      { extensions: ['allocate_k8s_token'], boot: { ...image, join } },
      /joinFromExtension is not true/,
    ],
    ['joinFromExtension for nothing', { joinFromExtension: true, boot: image }, /no join is of the kind/],
    ['a name of stage 1', { extensions: ['stage2'], boot: image }, /cannot be called "stage2"/],
    ['a name of no form', { extensions: ['a;b'], boot: image }, /extensions/],
    ['twice', { extensions: ['a', 'a'], boot: image }, /extensions/],
    [
      'by an address alone',
      { extensions: ['a'], evidence: ['address'], boot: image },
      /to whoever has the node's address/,
    ],
  ] as const)
    t.throws(() => parseProfile({ name: 'p', ...more }), { code: 'invalid', message: fault }, what)
  const good = parseProfile({
    name: 'p',
    extensions: ['b', 'allocate_k8s_token'],
    joinFromExtension: true,
    boot: { ...image, join },
  })
  t.same(good.extensions, ['allocate_k8s_token', 'b'])
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('what no service may be is refused when it is set', async (t) => {
    const receiver = await service(t)
    const { context } = await booted(openWorld, receiver)
    for (const [settings, message] of [
      [{ url: 'https://10.0.0.1/' }, /10\.0\.0\.1 is not an address of the public Internet/],
      [{ url: 'http://8.8.8.8/' }, /http:\/\/ is for networks that are listed/],
      [{ url: 'ftp://x/' }, /the extension's URL is not https/],
      [{ url: 'https://u:p@example.com/' }, /holds a user or password/],
      [{ url: 'https://example.com/', ca: 'x' }, /ca is not one to eight certificates/],
      [{ url: 'https://example.com/', clientKey: 'x' }, /go together/],
      [{ url: 'https://example.com/', clientCertificate: receiver.ca, clientKey: 'x' }, /is not the key of/],
      [{ url: 'https://example.com/', clientCertificate: receiver.ca, clientKey: '***' }, /go together/],
      [{ url: 'https://example.com/', answerTypes: ['text'] }, /not a media type/],
      [{ url: 'https://example.com/', timeoutSeconds: 26 }, /timeoutSeconds/],
    ] as const)
      await t.rejects(applyExtension(context, by, 'x', settings as ExtensionSettings), {
        code: 'invalid',
        message,
      })
    await t.rejects(applyExtension(context, by, 'report', { url: 'https://example.com/' }), {
      code: 'invalid',
    })
    await t.rejects(
      removeExtension(context, by, 'allocate_k8s_token'),
      { code: 'conflict' },
      'a profile allows it',
    )
    await t.rejects(removeExtension(context, by, 'none'), { code: 'not-found' })
    const before = await showExtension(context, 'allocate_k8s_token')
    const { url, ca } = before
    t.same(
      await applyExtension(context, by, 'allocate_k8s_token', { url, ca }),
      before,
      'the same again changes nothing',
    )
  })

  await t.test('a token that is foreign, early, late or of another kind gets nothing', async (t) => {
    const receiver = await service(t)
    const early = await booted(openWorld, receiver, {}, { stage2: false })
    await t.rejects(early.ask(), refused, 'before stage 2')
    const { world, context, ask, kargs } = await booted(openWorld, receiver)
    await storeNode(world, { name: 'n2', profile: 'epoxy' })
    await t.rejects(ask({ host: 'n2' }), refused, 'as another node')
    await t.rejects(ask({ token: 'x'.repeat(44) }), refused, 'made up')
    await t.rejects(ask({ token: tokenIn(kargs['epoxy.report']) }), refused, 'of another kind')
    await t.rejects(ask({ operation: 'not_listed' }), refused, 'not in the profile')
    const asking = { host: 'n1', source: '192.0.2.12' }
    const token = tokenIn(kargs['epoxy.stage3'])
    await redeemEpoxy(context, { ...asking, request: 'stage3', stage: 'stage3', token })
    t.equal((await ask()).status, 200)
    const report = { ...asking, request: 'report', token: tokenIn(kargs['epoxy.report']), message: 'success' }
    await takeReport(context, { ...report, final: false, key: undefined })
    await t.rejects(ask(), refused, 'after success')
    t.equal(receiver.received.length, 1, 'the service saw the good one alone')
    const causes = (await world.events({ kind: 'refused' })).map(({ detail }) => detail.cause)
    t.same(causes, [
      'foreign-token',
      'unknown-token',
      'wrong-order',
      'extension-not-allowed',
      'session-ended',
    ])
    const kept = JSON.stringify(await world.events())
    t.notOk(kept.includes(tokenIn(kargs['epoxy.allocate_k8s_token']).slice(12)), 'the token is in no event')
  })

  await t.test('who is disabled while the service thinks is given nothing', async (t) => {
    const receiver = await service(t)
    let go = (): void => {}
    const hold = new Promise<void>((resolve) => {
      go = resolve
    })
    receiver.answer = () => ({ ...json(allocated), hold })
    const { context, ask } = await booted(openWorld, receiver)
    const asked = ask()
    await receiver.sent(1)
    const second = await ask()
    t.match([second.status, second.retryAfterSeconds], [503, 10], 'one question at a time')
    await disableNode(context, by, 'n1')
    go()
    await t.rejects(asked, refused)
  })

  await t.test('a boot asks no more often than it may', async (t) => {
    const receiver = await service(t)
    const { world, ask } = await booted(openWorld, receiver)
    t.equal((await ask()).status, 200)
    t.equal((await ask()).status, 200, 'again is allowed: the client may have lost the answer')
    await world.context.storage.db
      .updateTable('extension_calls')
      .set({ count: extensionLimits.callsOfSession })
      .execute()
    await t.rejects(ask(), refused)
    t.equal(receiver.received.length, 2)
  })

  await t.test('hostile services: the node is told to ask again, and operators why', async (t) => {
    const receiver = await service(t)
    const drip = await rawServer(t, (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n')
      const timer = setInterval(() => socket.write(' '), 50)
      socket.on('error', () => {}).on('close', () => clearInterval(timer))
    })
    const silent = await rawServer(t, (socket) => socket.on('error', () => {}).resume())
    const cut = await rawServer(t, (socket) => {
      socket.on('error', () => {})
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{')
        socket.end()
      })
    })
    const type = { 'content-type': 'application/json' }
    const cases: readonly (readonly [
      string,
      number,
      string,
      { readonly url: string; readonly ca: string | null },
      (() => object)?,
    ])[] = [
      [
        'huge',
        502,
        'too-large',
        receiver,
        () => ({ status: 200, headers: type, body: Buffer.alloc(70_000, 32) }),
      ],
      [
        'of a wrong type',
        502,
        'wrong-type',
        receiver,
        () => ({ status: 200, headers: { 'content-type': 'text/html' }, body: '<b>' }),
      ],
      ['of no type', 502, 'wrong-type', receiver, () => ({ status: 200, body: '{}' })],
      [
        'encoded',
        502,
        'wrong-type',
        receiver,
        () => ({ status: 200, headers: { ...type, 'content-encoding': 'gzip' }, body: 'x' }),
      ],
      [
        'a redirect',
        502,
        'redirect',
        receiver,
        () => ({ status: 302, headers: { location: 'http://127.0.0.1/' } }),
      ],
      [
        'an error of another type',
        502,
        'status',
        receiver,
        () => ({ status: 500, headers: { 'content-type': 'text/html' }, body: 'secret' }),
      ],
      ['a status that is none', 502, 'status', receiver, () => ({ status: 799, headers: type, body: '{}' })],
      ['dripping', 504, 'timeout', drip],
      ['silent', 504, 'timeout', silent],
      ['cut off', 502, 'unreachable', cut],
      ['not there', 502, 'unreachable', { url: 'http://127.0.0.1:1', ca: null }],
      ['of another CA', 502, 'unreachable', { url: receiver.url, ca: null }],
    ]
    for (const [what, status, fault, at, answer] of cases) {
      await t.test(what, async (t) => {
        if (answer !== undefined) receiver.answer = answer as Receiver['answer']
        const { world, ask } = await booted(openWorld, at, { timeoutSeconds: fault === 'timeout' ? 1 : 25 })
        const got = await ask()
        t.equal(got.status, status)
        t.equal(Buffer.from(got.body).toString(), 'extension allocate_k8s_token gave no answer: ask again\n')
        const [event] = (await world.events()).filter(({ kind }) => kind === 'extension-failed')
        t.match(event?.detail, { operation: 'allocate_k8s_token', fault })
        t.equal(event?.node, 'n1')
      })
    }
    await t.test('what a service says of an error is told, where an answer could say it', async (t) => {
      receiver.answer = () => ({ status: 408, headers: { 'content-type': 'text/plain' }, body: 'too late' })
      const { ask } = await booted(openWorld, receiver)
      const got = await ask()
      t.match([got.status, Buffer.from(got.body).toString()], [408, 'too late'])
    })
    await t.test('an operation that no one has set', async (t) => {
      const { world, ask } = await booted(openWorld, receiver)
      t.equal((await ask({ operation: 'other' })).status, 500)
      t.match((await world.events()).at(-1)?.detail, { operation: 'other', fault: 'not-configured' })
    })
    await t.test('a name that leads to a private network', async (t) => {
      const closed = { resolve: async () => ['169.254.169.254'] }
      const { world, ask } = await booted(
        openWorld,
        { url: 'https://meta.example.com', ca: null },
        {},
        closed,
      )
      t.equal((await ask()).status, 502)
      const [event] = (await world.events()).filter(({ kind }) => kind === 'extension-failed')
      t.match(event?.detail, {
        fault: 'not-allowed',
        reason: /^169\.254\.169\.254 is not of the public Internet, nor in extensionAllowedNetworks/,
      })
    })
  })

  await t.test('the service is told who asks, signed for this question alone', async (t) => {
    const receiver = await service(t)
    const { world, context, ask, kargs } = await booted(openWorld, receiver)
    t.match(Object.keys(kargs), [
      'epoxy.allocate_k8s_token',
      'epoxy.images_version',
      'epoxy.other',
      'epoxy.report',
      'epoxy.stage2',
      'epoxy.stage3',
    ])
    t.match(
      kargs['epoxy.allocate_k8s_token'],
      /^https:\/\/boot\.example\.test:8443\/v1\/boot\/n1\/[\w-]{44}\/extension\/allocate_k8s_token$/,
    )
    const answer = await ask({ rawQuery: 'p=1&z=2' })
    t.match([answer.status, answer.type], [200, 'application/json'])
    t.same(JSON.parse(Buffer.from(answer.body).toString()), allocated)
    const [got] = receiver.received
    t.equal(got?.path, '/v2/allocate_k8s_token?key=hunter2')
    t.equal(
      got?.body,
      `{
    "v1": {
        "hostname": "n1",
        "ipv4_address": "192.0.2.12",
        "ipv6_address": "",
        "last_boot": "2026-11-21T06:00:00Z",
        "raw_query": "p=1\\u0026z=2"
    }
}`,
    )
    t.same(Object.keys(got?.headers ?? {}).sort(), [
      'accept',
      'accept-encoding',
      'authorization',
      'connection',
      'content-length',
      'content-type',
      'host',
      'user-agent',
    ])
    const keys = createLocalJWKSet((await extensionKeySet(context)) as unknown as JSONWebKeySet)
    const jwt = String(got?.headers.authorization).replace('Bearer ', '')
    const { payload, protectedHeader } = await jwtVerify(jwt, keys, {
      algorithms: ['ES256'],
      typ: 'pawl-extension+jwt',
      issuer: 'https://boot.example.test:8443/v1/extensions',
      audience: `${receiver.url}/v2/allocate_k8s_token?key=hunter2`,
      currentDate: world.clock.now(),
    })
    t.equal(protectedHeader.alg, 'ES256')
    t.match(payload, { sub: 'n1', operation: 'allocate_k8s_token', jti: /^[\w-]{22}$/ })
    t.equal(payload.exp, (payload.iat ?? 0) + 60)
    t.equal(
      payload.body_sha256,
      createHash('sha256')
        .update(got?.body ?? '')
        .digest('base64url'),
    )
    const [event] = (await world.events()).filter(({ kind }) => kind === 'extension-answered')
    t.match(event?.detail, { operation: 'allocate_k8s_token', status: 200, jti: payload.jti })
    await ask()
    t.not(receiver.received[1]?.headers.authorization, got?.headers.authorization)
    const dump = await world.dump()
    t.notOk(dump.includes('hunter2'), 'what its URL holds is sealed')
    t.notOk(dump.includes('PRIVATE KEY'), 'and so are the keys')
  })

  await t.test(
    'a key is published before it signs, and after; one that is known to others is withdrawn',
    async (t) => {
      const receiver = await service(t)
      const { world, context, ask } = await booted(openWorld, receiver)
      const signedBy = async (): Promise<string> => {
        await ask()
        const jwt = String(receiver.received.at(-1)?.headers.authorization).split(' ')[1] ?? ''
        return JSON.parse(Buffer.from(jwt.split('.')[0] ?? '', 'base64url').toString()).kid as string
      }
      const published = async (): Promise<unknown[]> =>
        (await extensionKeySet(context)).keys.map(({ kid }) => kid)
      const first = await signedBy()
      t.same(await published(), [first])
      const { items } = await rotateExtensionKey(context, by)
      const second = items[0]?.kid
      t.same(await published(), [second, first])
      t.equal(await signedBy(), first)
      world.clock.advance(901)
      t.equal(await signedBy(), second)
      t.same(await published(), [second, first], 'what the first has signed is still checked')
      world.clock.advance(901)
      t.same(await published(), [second])
      await rotateExtensionKey(context, by, { atOnce: true })
      const third = await signedBy()
      t.same(await published(), [third])
      t.not(third, second)
      world.clock.advance(91 * 86_400)
      await tendExtensionKeys(context)
      const { items: later } = await showExtensionKeys(context)
      t.match(later, [{ signing: false }, { kid: third, signing: true }], 'an old one is replaced by itself')
    },
  )

  await t.test(
    'a join that an extension answers: nothing but what fits is run, and no try spends the token',
    async (t) => {
      const receiver = await service(t)
      const type = { 'content-type': 'text/plain' }
      const wrong: readonly (readonly ['kubeadm' | 'script', string])[] = [
        ['kubeadm', '{}'],
        ['kubeadm', 'no JSON'],
        ['kubeadm', JSON.stringify({ ...allocated, token: 'x"\nEOF\nreboot' })],
        ['kubeadm', JSON.stringify({ ...allocated, api_address: 'a b:1' })],
        ['script', 'reboot'],
        ['script', '#!/bin/sh\n\u0000'],
      ]
      const joined = await joining(openWorld, receiver)
      for (const [answer, body] of wrong) {
        receiver.answer = () => ({ status: 200, headers: type, body })
        await t.rejects((await joined(answer)).join(), { code: 'join-unavailable' }, body)
      }
      receiver.answer = () => ({ status: 503, headers: type, body: 'later' })
      const one = await joined('kubeadm')
      await t.rejects(one.join(), { code: 'join-unavailable', retryAfterSeconds: 10 })
      receiver.answer = () => json(allocated)
      const script = JSON.parse(await one.join()).script as string
      t.match(script, /^kubeadm join/m)
      for (const value of Object.values(allocated)) t.ok(script.includes(`"${value}"`), value)
      await t.rejects(one.join(), refused, 'the token is used up')
      receiver.answer = () => ({ status: 200, headers: type, body: '#!/bin/sh\necho joined\n' })
      t.equal(JSON.parse(await (await joined('script')).join()).script, '#!/bin/sh\necho joined\n')
      const plain = await startReceiver(t, { tls: false })
      const over = await joining(openWorld, { url: plain.url, ca: null })
      await t.rejects(
        (await over('script')).join(),
        { code: 'join-unavailable' },
        'what is run must come by HTTPS',
      )
      t.same(plain.received, [])
    },
  )
})

/** Nodes that have come to their join, which an extension answers. */
async function joining(
  openWorld: OpenWorld,
  receiver: { readonly url: string; readonly ca: string | null },
): Promise<(answer: 'kubeadm' | 'script') => Promise<{ join(): Promise<string> }>> {
  const world = await openWorld({
    settings: { extensionAllowedNetworks: [{ address: '127.0.0.1', prefixLength: 32 }] },
    templates: servedTemplates(),
  })
  const context = {
    ...world.context,
    extensions: openExtensionService({ maxBootWork: 64, resolve: async () => ['127.0.0.1'] }),
  }
  await publishImage(world, 'small@1', 'a')
  await publishImage(world, 'full@1', 'b')
  await applyExtension(context, by, 'token', { url: `${receiver.url}/token`, ca: receiver.ca })
  let nodes = 0
  return async (answer) => {
    nodes += 1
    const host = `n${nodes}`
    const join = { kind: 'extension', settings: { operation: 'token', answer } }
    await storeProfile(world, {
      ...{ name: `p${nodes}`, extensions: ['token'], joinFromExtension: true },
      boot: { stage2: 'small@1', stage3: 'full@1', join },
    })
    const secret = await storeNode(world, { name: host, profile: `p${nodes}` })
    const asking = { host, source: '192.0.2.12' }
    const fields = { secret }
    const stage1 = await serveStage1(context, { ...asking, request: 'stage1.json', format: 'json', fields })
    const take = (stage: RedeemedStage, token: string): Promise<string> =>
      redeem(context, { ...asking, request: stage, stage, token, key: undefined })
    const two = JSON.parse(await take('stage2', JSON.parse(stage1?.body ?? '').handover.tokens.stage2))
    const three = JSON.parse(await take('stage3', two.handover.tokens.stage3))
    return { join: () => take('join', three.tokens.join) }
  }
}
