import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import t from 'tap'
import type { AddressRange } from '../../src/domain/address.ts'
import { resolveHost } from '../../src/outgoing/resolve.ts'
import { type SendOptions, type SendOutcome, sendWebhook } from '../../src/webhooks/send.ts'
import { freePort } from '../helpers/ports.ts'
import { type Receiver, startReceiver } from '../helpers/receiver.ts'

const now = new Date('2026-11-21T06:00:00.000Z')
const loopback: AddressRange[] = [{ address: '127.0.0.1', prefixLength: 32 }]
const message = { id: `msg_${'a'.repeat(22)}`, body: '{"type":"ping"}', now }

function send(
  url: string,
  ca: string | null,
  options: Partial<SendOptions> = {},
): Promise<SendOutcome & { readonly status?: number; readonly reason?: string; readonly body?: string }> {
  const secrets = [`whsec_${Buffer.alloc(32).toString('base64')}`]
  const all = { allowed: loopback, resolve: async () => ['127.0.0.1'], ...options }
  return sendWebhook({ url: new URL(url), ca, secrets }, message, all)
}

const port = ({ url }: Receiver): string => new URL(url).port

await t.test('an address that is not listed is not connected to', async (t) => {
  const receiver = await startReceiver(t)
  const plain = await startReceiver(t, { tls: false })
  for (const [host, resolved, reason] of [
    ['127.0.0.1', [], /^127\.0\.0\.1 is not of the public Internet, nor in webhookAllowedNetworks$/],
    ['2130706433', [], /^127\.0\.0\.1 is not/],
    ['0177.0.0.1', [], /^127\.0\.0\.1 is not/],
    ['[::1]', [], /^::1 is not/],
    ['[::ffff:127.0.0.1]', [], /^::ffff:7f00:1 is not/],
    ['localhost', ['127.0.0.1', '::1'], /^127\.0\.0\.1 is not/],
    ['metadata.example', ['169.254.169.254'], /^169\.254\.169\.254 is not/],
    ['rebound.example', ['::ffff:127.0.0.1'], /^::ffff:127\.0\.0\.1 is not/],
    ['none.example', [], 'its name has no address'],
  ] as const) {
    const options = { allowed: [], resolve: async () => resolved }
    t.match(
      await send(`https://${host}:${port(receiver)}/`, receiver.ca, options),
      { kind: 'failed', reason },
      host,
    )
    t.match((await send(`http://${host}:${port(plain)}/`, null, options)).kind, 'failed', host)
  }
  t.match(await send('http://example.com/', null, { resolve: async () => ['8.8.8.8'] }), {
    kind: 'failed',
    reason: 'http:// is for networks that webhookAllowedNetworks lists',
  })
  t.same([...receiver.received, ...plain.received], [])
})

await t.test('a listed one is, by HTTP too', async (t) => {
  const receiver = await startReceiver(t)
  const plain = await startReceiver(t, { tls: false })
  t.match(await send(receiver.url, receiver.ca), { kind: 'answered', status: 204 })
  t.match(await send(`https://127.0.0.1:${port(receiver)}`, receiver.ca), { status: 204 })
  t.match(await send(plain.url, null), { status: 204 })
  t.equal(receiver.received[0]?.headers.host, `localhost:${port(receiver)}`)
})

await t.test('a name is asked for once for each try: what was judged is what is connected to', async (t) => {
  const receiver = await startReceiver(t)
  let asked = 0
  // The first answer is allowed, every later one is where nobody may go: DNS rebinding.
  const resolve = async (): Promise<string[]> => {
    asked += 1
    return asked === 1 ? ['127.0.0.1'] : ['10.0.0.1']
  }
  t.match(await send(receiver.url, receiver.ca, { resolve }), { status: 204 })
  t.equal(asked, 1)
  t.match(await send(receiver.url, receiver.ca, { resolve }), {
    kind: 'failed',
    reason: /^10\.0\.0\.1 is not/,
  })
  t.match(
    await send(receiver.url, receiver.ca, { resolve: async () => ['10.0.0.1', '127.0.0.1'] }),
    { status: 204 },
    'of several addresses only those are taken that may be',
  )
})

await t.test('a receiver is believed by the CA that was given, and for its name', async (t) => {
  const receiver = await startReceiver(t)
  t.match(await send(receiver.url, null), { reason: /not of a CA that is trusted/ })
  t.match(await send(`https://other.example:${port(receiver)}`, receiver.ca), {
    reason: 'its certificate is for another name',
  })
  const plain = await startReceiver(t, { tls: false })
  t.match(await send(plain.url.replace('http:', 'https:'), receiver.ca), {
    reason: /TLS failed|the exchange/,
  })
  t.equal(receiver.received.length, 0)
})

await t.test('what goes wrong is said in words of ours, and never holds the URL', async (t) => {
  const deaf = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  t.teardown(() => deaf.close())
  await new Promise((resolve) => deaf.once('listening', resolve))
  const fault = (code: string) => async () => Promise.reject(Object.assign(new Error('hunter2'), { code }))
  for (const [outcome, reason] of [
    [send(`https://h:${(deaf.address() as AddressInfo).port}/hunter2`, null), /reset|exchange failed/],
    [send(`https://h:${await freePort()}/hunter2`, null), 'nothing listens there'],
    [send('https://h/hunter2', null, { resolve: fault('ENOTFOUND') }), 'its name has no address'],
    [send('https://h/hunter2', null, { resolve: fault('EAI_AGAIN') }), 'DNS does not answer'],
    [
      send('https://h/hunter2', null, { resolve: () => new Promise(() => {}), timeoutMilliseconds: 50 }),
      'no answer in time',
    ],
  ] as const) {
    t.match(await outcome, { kind: 'failed', reason })
    t.notMatch(await outcome, { reason: /hunter2/ })
  }
})

await t.test('an answer is read up to 16 KiB, and no longer than the time there is', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = () => ({ status: 200, body: Buffer.alloc(8 * 2 ** 20, 'x') })
  t.equal((await send(receiver.url, receiver.ca)).body?.length, 16 * 1024)
  receiver.answer = () => ({ status: 200, hold: new Promise(() => {}) })
  t.match(await send(receiver.url, receiver.ca, { timeoutMilliseconds: 200 }), {
    reason: 'no answer in time',
  })
  receiver.answer = () => ({ status: 503, headers: { 'retry-after': '7' } })
  t.match(await send(receiver.url, receiver.ca), { status: 503, retryAfterSeconds: 7 })
  receiver.answer = () => ({ status: 200, headers: { 'x-large': 'x'.repeat(20_000) } })
  t.match(await send(receiver.url, receiver.ca), { kind: 'failed', reason: /HPE_HEADER_OVERFLOW/ })
})

await t.test('a name of the hosts file is known without DNS', async (t) => {
  t.ok((await resolveHost('localhost')).some((address) => ['127.0.0.1', '::1'].includes(address)))
  t.same(await resolveHost('192.0.2.1'), ['192.0.2.1'])
})
