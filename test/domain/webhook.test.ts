import t from 'tap'
import { parseAddressRange } from '../../src/domain/address.ts'
import { eventKinds } from '../../src/domain/event.ts'
import {
  deliveryId,
  deliveryIdPattern,
  kindWanted,
  maskUrl,
  nextTry,
  parseKinds,
  parseRetryAfter,
  parseWebhookName,
  parseWebhookUrl,
  payloadOf,
  retryPauses,
  webhookSecret,
  webhookSignature,
} from '../../src/domain/webhook.ts'
import { addressUse } from '../../src/domain/webhook-address.ts'
import { isPawlError } from '../../src/errors.ts'

const now = new Date('2026-11-21T06:00:00.000Z')

function messageOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (isPawlError(error, 'invalid')) return error.message
    throw error
  }
  return 'nothing was refused'
}

/** Addresses that are not the public Internet, or lead elsewhere from it. */
const closed = [
  ...['0.0.0.0', '0.1.2.3', '10.0.0.1', '10.255.255.255', '100.64.0.1', '100.100.100.200', '100.127.255.255'],
  ...['127.0.0.1', '127.255.255.254', '168.63.129.16', '169.254.0.1', '169.254.169.254', '169.254.170.2'],
  ...[
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.0.192',
    '192.0.2.1',
    '192.31.196.1',
    '192.52.193.1',
  ],
  ...[
    '192.88.99.1',
    '192.168.0.1',
    '192.175.48.1',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.1',
    '203.0.113.1',
  ],
  ...['224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255'],
  ...[
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:10.0.0.1',
    '::ffff:169.254.169.254',
  ],
  ...[
    '0:0:0:0:0:ffff:c0a8:1',
    '::ffff:0:127.0.0.1',
    '64:ff9b::10.0.0.1',
    '64:ff9b::a00:1',
    '64:ff9b::8.8.8.8',
  ],
  ...['64:ff9b:1::1', '100::1', '2001::1', '2001:0:4136:e378:8000:63bf:3fff:fdd2', '2001:2::1', '2001:10::1'],
  ...['2001:20::1', '2001:db8::1', '2002:7f00:1::', '2002:a00:1::1', '2002:808:808::1', '2620:4f:8000::1'],
  ...['3fff::1', '3ffe::%eth0', '4000::1', '5f00::1', 'fc00::1', 'fd00:ec2::254', 'fdff::1', 'fe80::1'],
  ...['fe80::1%eth0', 'fec0::1', 'ff02::1', '2a00::1%lo'],
  // What is not one plain address: a resolver gives none of these.
  ...[
    '',
    'localhost',
    '2130706433',
    '0x7f000001',
    '0x7f.1',
    '0177.0.0.1',
    '127.1',
    '127.0.0.1.',
    '1.2.3',
    '8.8.8.8/32',
  ],
  ...['8.8.8.8 ', '08.8.8.8', '256.1.1.1', '::ffff:1.2.3', '[::1]'],
]

const open = [
  ...[
    '1.1.1.1',
    '8.8.8.8',
    '100.63.255.255',
    '100.128.0.1',
    '172.15.255.255',
    '172.32.0.1',
    '192.0.1.1',
    '11.0.0.1',
  ],
  ...[
    '198.17.255.255',
    '198.20.0.1',
    '223.255.255.255',
    '169.253.255.255',
    '168.63.129.15',
    '::ffff:8.8.8.8',
  ],
  ...[
    '2001:200::1',
    '2001:4860:4860::8888',
    '2606:4700::1111',
    '2a00:1450::1',
    '2003::1',
    '3ffd::1',
    '2620:4f:8001::1',
  ],
]

await t.test('an address that is not the public Internet is closed, in any spelling', async (t) => {
  for (const address of closed) t.equal(addressUse(address, []), 'closed', address)
  for (const address of open) t.equal(addressUse(address, []), 'public', address)
})

await t.test('a listed network is open, and nothing beside it', async (t) => {
  const allowed = ['10.1.0.0/16', '127.0.0.1', 'fd00:1::/32', '64:ff9b::/96'].map(parseAddressRange)
  for (const address of ['10.1.0.1', '::ffff:10.1.255.255', '127.0.0.1', 'fd00:1::5', '64:ff9b::1.2.3.4'])
    t.equal(addressUse(address, allowed), 'listed', address)
  for (const address of ['10.2.0.1', '127.0.0.2', '::1', 'fd00:2::5', 'fd00:1::5%eth0'])
    t.equal(addressUse(address, allowed), 'closed', address)
  t.equal(addressUse('8.8.8.8', allowed), 'public')
})

await t.test('a URL that is not plainly one is refused, and never repeated', async (t) => {
  for (const [text, fault] of [
    ['', 'is not https://HOST'],
    ['example.com', 'is not https://HOST'],
    ['ftp://example.com', 'is not https://HOST'],
    ['file:///etc/passwd', 'is not https://HOST'],
    ['javascript:alert(1)', 'is not https://HOST'],
    ['https:example.com', 'is not https://HOST'],
    ['https:\\\\example.com', 'is not https://HOST'],
    ['https://', 'is not https://HOST'],
    ['https://ex ample.com', 'is not https://HOST'],
    ['https://example.com/\r\nx', 'is not https://HOST'],
    ['https://example.com/é', 'is not https://HOST'],
    ['https://1.2.3.256/', 'is not https://HOST'],
    ['https://[::1/', 'is not https://HOST'],
    ['https://example.com:65536/', 'is not https://HOST'],
    [`https://example.com/${'a'.repeat(2048)}`, 'is not https://HOST'],
    ['https://user@example.com/', 'holds a user or password'],
    ['https://u:hunter2@example.com/', 'holds a user or password'],
    ['https://example.com/#x', 'has a fragment'],
    ['https://example.com/#', 'has a fragment'],
    ['https://example.com:0/', 'names port 0'],
  ] as const) {
    const message = messageOf(() => parseWebhookUrl(text))
    t.match(message, `the webhook's URL ${fault}`, text)
    t.notMatch(message, 'hunter2')
  }
})

await t.test('an address in a URL is the dotted one from here on, however it was written', async (t) => {
  for (const [text, host] of [
    ['https://2130706433/', '127.0.0.1'],
    ['https://0x7f000001/', '127.0.0.1'],
    ['https://0177.0.0.1/', '127.0.0.1'],
    ['https://0x7f.1/', '127.0.0.1'],
    ['https://127.1/', '127.0.0.1'],
    ['https://127.0.0.1./', '127.0.0.1'],
    ['https://①②⑦.0.0.1/', undefined],
    ['https://%31%32%37.0.0.1/', '127.0.0.1'],
    ['https://[::ffff:127.0.0.1]/', '[::ffff:7f00:1]'],
    ['https://[0:0:0:0:0:0:0:1]/', '[::1]'],
    ['HTTPS://EXAMPLE.com:443/A?b=C', 'example.com'],
  ] as const) {
    if (host === undefined)
      t.match(
        messageOf(() => parseWebhookUrl(text)),
        'is not https://',
      )
    else t.equal(parseWebhookUrl(text).hostname, host, text)
  }
})

await t.test('what may be a secret in a URL is masked', async (t) => {
  for (const [url, masked] of [
    ['https://example.com', 'https://example.com/'],
    ['https://example.com:8443/hooks/pawl', 'https://example.com:8443/hooks/pawl'],
    ['https://example.com/h?token=abc&x', 'https://example.com/h?token=***&x=***'],
    ['https://example.com/services/T0/abcdefghijklmnopqrst/x', 'https://example.com/services/T0/***/x'],
    ['https://example.com/?abcdefghijklmnopqrstuvwxyz', 'https://example.com/?***'],
  ] as const)
    t.equal(maskUrl(new URL(url)), masked)
})

await t.test('kinds are names, or all that begin so', async (t) => {
  for (const kinds of [[], ['nope'], ['Session-*'], ['*-failed'], ['refused', ''], ['session-*x']])
    t.match(
      messageOf(() => parseKinds(kinds)),
      /needs a kind|is no kind of event/,
      JSON.stringify(kinds),
    )
  t.same(parseKinds(['refused', 'node-*', 'refused']), ['node-*', 'refused'])
  const wanted = Object.keys(eventKinds).filter((kind) => kindWanted(['rollout-*', 'refused'], kind))
  t.same(wanted.toSorted(), [
    'refused',
    ...['aborted', 'advanced', 'completed', 'halted', 'paused', 'resumed', 'started'].map(
      (what) => `rollout-${what}`,
    ),
  ])
  t.ok(Object.keys(eventKinds).every((kind) => kindWanted(['*'], kind)))
  for (const name of ['', 'A', '-a', 'a b', 'a'.repeat(64)])
    t.match(
      messageOf(() => parseWebhookName(name)),
      "is not a webhook's name",
      name,
    )
})

await t.test('the signature is the one of Standard Webhooks', async (t) => {
  const message = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', timestamp: 1614265330, body: '{"test": 2432232314}' }
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' // the vector of the specification's own libraries
  const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
  t.equal(webhookSignature([secret], message), signature)
  const other = webhookSecret(Buffer.alloc(32, 1))
  t.match(other, /^whsec_[A-Za-z0-9+/]{43}=$/)
  t.equal(webhookSignature([other, secret], message).split(' ')[1], signature)
  for (const size of [0, 23, 65]) t.throws(() => webhookSecret(Buffer.alloc(size)), RangeError)
})

await t.test('an event has one id for each webhook, whenever it is made', async (t) => {
  t.equal(deliveryId('a', 'h'), deliveryId('a', 'h'))
  t.equal(new Set([deliveryId('a', 'h'), deliveryId('b', 'h'), deliveryId('a', 'i')]).size, 3)
  t.match(deliveryId('a', 'h'), new RegExp(deliveryIdPattern))
})

await t.test('a body is the event, and at most 64 KiB', async (t) => {
  const event = { id: 7, at: now.toISOString(), kind: 'refused', detail: { cause: 'no-evidence' } }
  t.same(JSON.parse(payloadOf(event)), { type: 'refused', timestamp: event.at, version: 1, data: event })
  const large = { ...event, detail: { text: 'é'.repeat(40_000) } }
  t.same(JSON.parse(payloadOf(large)), {
    type: 'refused',
    timestamp: event.at,
    version: 1,
    truncated: true,
    data: { ...event, detail: {} },
  })
})

await t.test('eleven tries within 24 hours, with jitter, and as late as the receiver asks', async (t) => {
  const pause = (tries: number, random: number, retryAfterSeconds?: number): number | undefined => {
    const next = nextTry(tries, now, { random, retryAfterSeconds })
    return next === undefined ? undefined : (next.getTime() - now.getTime()) / 1000
  }
  t.same(retryPauses, [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800])
  t.equal(pause(1, 0), 4)
  t.equal(pause(1, 0.5), 5)
  t.equal(pause(10, 0.5), 28_800)
  t.equal(pause(11, 0.5), undefined, 'then it is a dead letter')
  const whole = retryPauses.reduce((sum, own) => sum + own, 0)
  t.ok(whole < 86_400 && whole > 80_000, `${whole} s`)
  t.equal(pause(1, 0, 90), 90)
  t.equal(pause(5, 0.5, 90), 1800, 'never sooner than by ourselves')
  t.equal(pause(1, 0, 999_999), 28_800, 'and not for ever')
})

await t.test('Retry-After is seconds or a date, and nothing else', async (t) => {
  for (const [text, seconds] of [
    ['120', 120],
    ['0', 0],
    ['Sat, 21 Nov 2026 06:02:00 GMT', 120],
    ['Sat, 21 Nov 2026 05:00:00 GMT', 0],
    ['-1', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['1e9', undefined],
    ['9'.repeat(70), undefined],
    ['2026-11-21', undefined],
    [undefined, undefined],
  ] as const)
    t.equal(parseRetryAfter(text, now), seconds, text ?? 'none')
})
