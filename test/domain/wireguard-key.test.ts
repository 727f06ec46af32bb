import t from 'tap'
import { parseWireguardKey } from '../../src/domain/wireguard-key.ts'

const key = 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='

t.test('refuses what is no public key of WireGuard', async (t) => {
  const refused = [
    ...['', ' ', key.slice(1), `${key}x`, `${key}\n\n`, `${key}\n${key}`, ` ${key}`, `${key} `],
    ...[
      key.replace('x', '-'),
      key.replace('=', ''),
      `${'A'.repeat(43)}=`,
      `${'A'.repeat(42)}B=`,
      'x'.repeat(5000),
    ],
    ...['-----BEGIN PRIVATE KEY-----', 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh='],
  ]
  for (const text of refused)
    t.throws(
      () => parseWireguardKey(text),
      { code: 'invalid', message: /is not a public key/ },
      text.slice(0, 60),
    )
})

t.test('takes a key with the end of its line, and keeps it as it was sent', async (t) => {
  for (const text of [key, `${key}\n`, `${key}\r\n`]) t.equal(parseWireguardKey(text), key)
})
