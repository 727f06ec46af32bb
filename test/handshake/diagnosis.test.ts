import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { diagnose, type HandshakeCause, handshakeCauses } from '../../src/handshake/diagnosis.ts'
import { knownClients } from '../../src/handshake/known-clients.ts'
import { versionName } from '../../src/handshake/suites.ts'

t.test('what each code of OpenSSL and Node means', (t) => {
  const table: Record<string, HandshakeCause> = {
    ERR_SSL_NO_SHARED_CIPHER: 'no-common-suite',
    ERR_SSL_UNSUPPORTED_PROTOCOL: 'old-version',
    ERR_SSL_VERSION_TOO_LOW: 'old-version',
    ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'untrusted-root',
    ERR_SSL_TLS_ALERT_UNKNOWN_CA: 'untrusted-root',
    ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'certificate-refused',
    'ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE': 'certificate-refused',
    ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 'certificate-refused',
    'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED': 'certificate-expired',
    'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE': 'client-refused',
    ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'client-refused',
    ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR: 'client-refused',
    ERR_SSL_NO_SUITABLE_KEY_SHARE: 'no-common-group',
    ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHMS: 'no-common-signature',
    ERR_SSL_TLSV1_CERTIFICATE_UNOBTAINABLE: 'only-looked',
    ERR_SSL_HTTP_REQUEST: 'plain-http',
    ERR_SSL_WRONG_VERSION_NUMBER: 'malformed',
    ERR_SSL_LENGTH_MISMATCH: 'malformed',
    ERR_TLS_HANDSHAKE_TIMEOUT: 'timed-out',
    ECONNRESET: 'hung-up',
    unknown: 'failed',
  }
  for (const [code, cause] of Object.entries(table)) {
    const found = diagnose({ code, keys: ['RSA'] })
    t.equal(found.cause, cause, code)
    t.ok(found.reason.length > 0 && found.advice.length > 0)
  }
  t.end()
})

t.test('a client whose suites this server has, is not told that they are missing', (t) => {
  const cause = (id: string, keys: ('RSA' | 'ECDSA')[]): string => {
    const hello = knownClients().find((client) => client.id === id)?.hello
    return diagnose({ code: 'ERR_SSL_NO_SHARED_CIPHER', hello, keys }).cause
  }
  t.equal(cause('ipxe-2019', ['RSA']), 'rsa-key-exchange-off')
  t.equal(cause('ipxe-2019', ['ECDSA']), 'certificate-type')
  t.equal(cause('ipxe-2025', ['ECDSA']), 'certificate-type')
  t.equal(cause('ipxe-2026', ['ECDSA']), 'no-common-suite')
  t.equal(cause('edk2-2022', ['RSA', 'ECDSA']), 'no-common-suite')
  t.end()
})

t.test('every cause has a reason and says what to change', (t) => {
  for (const [cause, [reason, advice]] of Object.entries(handshakeCauses)) {
    t.match(reason, /^[a-zA-Z].*[^.]$/, cause)
    t.match(advice, /^[a-z].*[^.]$/, cause)
  }
  t.end()
})

t.test('docs/handshakes.md has every cause and every client', (t) => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/handshakes.md'), 'utf8')
  for (const [cause, [reason, advice]] of Object.entries(handshakeCauses)) {
    t.ok(text.includes(`| \`${cause}\` | ${reason} | ${advice} |`), cause)
  }
  for (const { id, name, origin, hello } of knownClients()) {
    const line = text.split('\n').find((one) => one.startsWith(`| \`${id}\` | ${name} | `)) ?? ''
    t.ok(
      line.includes(` ${hello.versions.map(versionName).join(', ')} `) && line.endsWith(` ${origin} |`),
      id,
    )
  }
  t.end()
})
