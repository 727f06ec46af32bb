import type { ClientHello } from './client-hello.ts'
import type { Likely } from './known-clients.ts'
import { groupName, isWeak, type KeyExchange, type Suite, suiteOf } from './suites.ts'

/** Why a connection to the boot listener did not come to a request: what happened, and what to change. */
export const handshakeCauses = {
  'no-common-suite': [
    'the client offers no suite that this server has',
    'update the client; if suites were taken off this server, put them back',
  ],
  'weak-suites': [
    'the client offers only suites that are broken or unknown',
    'update its firmware: nothing on the server should be changed for it',
  ],
  'rsa-key-exchange-off': [
    'the client offers only RSA key exchange, and this server has it turned off',
    'let the boot listener have it: remove what sets --tls-cipher-list, or load newer firmware',
  ],
  'certificate-type': [
    'the client takes no certificate with a key of the kind that this server has',
    'let the boot listener have an RSA certificate: all boot firmware takes RSA, only new firmware ECDSA',
  ],
  'no-common-group': [
    'the client offers no curve or group that this server has',
    'update the client: P-256, P-384 and X25519 are served',
  ],
  'no-common-signature': [
    'the client takes no signature that this server can make',
    'update its firmware, or let the boot listener have an RSA certificate',
  ],
  'old-version': [
    'the client speaks no TLS version from 1.2 on',
    'update its firmware, or let an older boot ROM load a newer iPXE by TFTP first',
  ],
  'new-version': ['the client speaks no TLS version that this server has', 'let it speak TLS 1.2 or 1.3'],
  'untrusted-root': [
    'the client does not trust our root certificate',
    'give it ca.crt: firmware menu, media or pawl ipxe trust; if it has one, is it of this server?',
  ],
  'certificate-refused': [
    'the client does not accept our certificate',
    'look at the name that it asks for, at its clock, and whether it has ca.crt of this server',
  ],
  'certificate-expired': [
    "the client's clock is outside our certificate's lifetime",
    'set the clock of the machine (firmware menu); does the server renew its certificate (pawl doctor)?',
  ],
  'client-refused': [
    'the client refused what the server chose',
    'see its code and its console; pawl doctor boot shows what each known client is given',
  ],
  'hung-up': [
    'the client hung up when it had our certificate, as one does that does not trust it',
    'give it ca.crt; look at its clock and at the name that it asks for',
  ],
  'hung-up-early': [
    'the client hung up before it had said which TLS it speaks',
    'nothing, if it was a port scan or a health check; else look at the network between',
  ],
  'timed-out': [
    'the client did not finish the handshake in time',
    'look for packet loss, or a network with a smaller MTU than its ends believe',
  ],
  'timed-out-early': [
    'the client did not say in time which TLS it speaks',
    'nothing, if nobody boots there; else look for packet loss between',
  ],
  'only-looked': [
    'the client ended the handshake itself, as pawl doctor boot does that only looks',
    'nothing, if somebody ran pawl doctor boot; else look what connects there',
  ],
  'too-many': [
    'it was cut off: too many connections were in their handshake, and it was the oldest',
    'look who opens so many (same event, sources); a boot tries again by itself',
  ],
  'plain-http': [
    'plain HTTP was spoken to the HTTPS port',
    'write https:// in the URL of the boot script, the media or the DHCP option',
  ],
  'not-tls': ['what was spoken is not TLS', 'look what connects there: this port is for machines that boot'],
  malformed: [
    'the client broke the rules of TLS',
    'look what connects there; a machine that boots should be tried with other firmware',
  ],
  'proxy-header-unexpected': [
    'a PROXY header came from an address that proxyProtocolFrom does not name',
    'add the proxy to proxyProtocolFrom, or turn send-proxy off in it',
  ],
  'proxy-header-missing': [
    'no PROXY header came from an address that proxyProtocolFrom names',
    'turn on send-proxy-v2 in the proxy, or take it out of proxyProtocolFrom',
  ],
  'proxy-header-bad': ['the PROXY header is wrong', 'look at the version and the configuration of the proxy'],
  failed: ['the handshake failed', 'see its code; pawl doctor boot shows which known client can boot here'],
} as const satisfies Readonly<Record<string, readonly [reason: string, advice: string]>>

/** A cause, for counting. */
export type HandshakeCause = keyof typeof handshakeCauses

/** What is known of a connection that came to nothing. */
export interface HandshakeFacts {
  /** Node's or OpenSSL's code of the error, where there was one. */
  readonly code?: string | undefined
  /** What was found wrong before TLS. */
  readonly early?: HandshakeCause | undefined
  readonly hello?: ClientHello | undefined
  readonly likely?: Likely | undefined
  /** The first bytes, where they are no hello. */
  readonly first?: Buffer | undefined
  /** The keys that this server has certificates for. */
  readonly keys: readonly KeyType[]
}

/** The kind of a certificate's key. */
export type KeyType = 'RSA' | 'ECDSA'

/** What happened and what to change, in words. */
export interface Diagnosis {
  readonly cause: HandshakeCause
  readonly reason: string
  readonly advice: string
}

/** Judges a failed handshake. */
export function diagnose(facts: HandshakeFacts): Diagnosis {
  const cause = facts.early ?? causeOf(facts)
  const [reason, advice] = handshakeCauses[cause]
  return { cause, reason, advice, ...special(cause, facts) }
}

/** OpenSSL's and Node's codes that mean one thing. */
const causes: Readonly<Record<string, HandshakeCause>> = {
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'old-version',
  ERR_SSL_VERSION_TOO_LOW: 'old-version',
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: 'no-common-signature',
  ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHMS: 'no-common-signature',
  ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHM: 'no-common-signature',
  ERR_SSL_NO_SHARED_GROUP: 'no-common-group',
  ERR_SSL_NO_SHARED_GROUPS: 'no-common-group',
  ERR_SSL_NO_SUITABLE_KEY_SHARE: 'no-common-group',
  ERR_SSL_NO_SUITABLE_GROUPS: 'no-common-group',
  ERR_SSL_TLSV1_CERTIFICATE_UNOBTAINABLE: 'only-looked',
  ERR_SSL_HTTP_REQUEST: 'plain-http',
  ERR_SSL_HTTPS_PROXY_REQUEST: 'plain-http',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'timed-out',
  ECONNRESET: 'hung-up',
  EPIPE: 'hung-up',
}

/** Alerts of the client, by the words that OpenSSL's codes end with. */
const alerts: readonly (readonly [RegExp, HandshakeCause])[] = [
  [/_ALERT_UNKNOWN_CA$/, 'untrusted-root'],
  [/_ALERT_(CERTIFICATE_EXPIRED|CERTIFICATE_REVOKED)$/, 'certificate-expired'],
  [
    /_ALERT_(BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)$/,
    'certificate-refused',
  ],
  [/_ALERT_/, 'client-refused'],
]

function causeOf(facts: HandshakeFacts): HandshakeCause {
  const { code = '', hello, first } = facts
  const early = first === undefined ? undefined : causeOfFirst(first)
  if (early !== undefined) return early
  if (code === 'ERR_SSL_NO_SHARED_CIPHER')
    return hello === undefined ? 'no-common-suite' : suiteFault(hello, facts.keys)
  if (/^ERR_SSL_(UNSUPPORTED_PROTOCOL|VERSION_TOO_)/.test(code) && hello !== undefined) {
    return (hello.versions[0] ?? 0) < 0x0303 ? 'old-version' : 'new-version'
  }
  const known = causes[code] ?? alerts.find(([pattern]) => pattern.test(code))?.[1]
  return known ?? (/^ERR_SSL_/.test(code) ? 'malformed' : 'failed')
}

const proxySignature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')

/** What a connection begins with that is no ClientHello. */
function causeOfFirst(first: Buffer): HandshakeCause | undefined {
  const text = first.toString('latin1')
  if (text.startsWith('PROXY ') || first.subarray(0, 12).equals(proxySignature))
    return 'proxy-header-unexpected'
  if (/^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT) /.test(text)) return 'plain-http'
  // A record of TLS that was not looked into: OpenSSL's word is the better one.
  return text.startsWith('\x16\x03') ? undefined : 'not-tls'
}

const rsa: readonly KeyExchange[] = ['RSA', 'DHE-RSA', 'ECDHE-RSA']

/** Why not one of the suites fits. That OpenSSL found none is certain; which of them it would have is told by what it has keys for. */
function suiteFault(hello: ClientHello, keys: readonly KeyType[]): HandshakeCause {
  const usable = hello.suites
    .map(suiteOf)
    .filter((suite): suite is Suite => suite !== undefined && !isWeak(suite))
  const kinds = new Set(usable.map((suite) => suite.keyExchange))
  kinds.delete('anonymous')
  if (kinds.size === 0) return 'weak-suites'
  const all = (wanted: readonly KeyExchange[]): boolean => [...kinds].every((kind) => wanted.includes(kind))
  if (all(rsa) && !keys.includes('RSA')) return 'certificate-type'
  if (all(['ECDHE-ECDSA']) && !keys.includes('ECDSA')) return 'certificate-type'
  if (all(['RSA'])) return 'rsa-key-exchange-off'
  const curves = hello.groups.filter((group) => /^(P-|X25519$)/.test(groupName(group)))
  if (all(['ECDHE-RSA', 'ECDHE-ECDSA']) && curves.length === 0) return 'no-common-group'
  return 'no-common-suite'
}

/** What is said otherwise when it is known better. */
function special(cause: HandshakeCause, facts: HandshakeFacts): Partial<Diagnosis> {
  // Seen with iPXE 1.21.1 and 2.0.0 and with EDK2 of 2022 and 2026: none of them sends an alert.
  if (cause === 'hung-up' && facts.likely?.kind === 'ipxe') {
    return {
      reason: 'an iPXE hung up when it had our certificate: that is how it says that it does not trust it',
      advice:
        'give it our root (pawl ipxe trust, TlsCaCertificate in the firmware); if it has it, set its clock',
    }
  }
  if (cause === 'hung-up' && facts.likely?.kind === 'firmware') {
    return {
      reason:
        'a UEFI firmware hung up when it had our certificate: that is how it says that it does not trust it',
      advice:
        'add ca.crt to its TLS CA certificates (firmware menu, TlsCaCertificate); if it is there, set its clock',
    }
  }
  if (cause === 'hung-up' && facts.hello === undefined) {
    return { reason: 'the client hung up during the handshake', advice: handshakeCauses['hung-up-early'][1] }
  }
  if (cause === 'certificate-type' && facts.keys.includes('RSA')) {
    return { advice: 'let the boot listener have an ECDSA certificate beside the RSA one' }
  }
  return {}
}
