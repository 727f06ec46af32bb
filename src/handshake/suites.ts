/**
 * How a suite agrees on keys, and what key the server's certificate must have for it. TLS 1.3 suites say neither; RSA key exchange
 * needs an RSA certificate.
 */
export type KeyExchange = 'TLS 1.3' | 'ECDHE-ECDSA' | 'ECDHE-RSA' | 'DHE-RSA' | 'RSA' | 'anonymous'

/** Suites by the kind of their key exchange: the IANA number in hex, and OpenSSL's name, which configurations use. */
const byKind: Readonly<Record<KeyExchange, string>> = {
  'TLS 1.3': `
    1302 TLS_AES_256_GCM_SHA384, 1303 TLS_CHACHA20_POLY1305_SHA256, 1301 TLS_AES_128_GCM_SHA256
  `,
  'ECDHE-ECDSA': `
    c02c ECDHE-ECDSA-AES256-GCM-SHA384, cca9 ECDHE-ECDSA-CHACHA20-POLY1305,
    c02b ECDHE-ECDSA-AES128-GCM-SHA256, c024 ECDHE-ECDSA-AES256-SHA384, c023 ECDHE-ECDSA-AES128-SHA256,
    c00a ECDHE-ECDSA-AES256-SHA, c009 ECDHE-ECDSA-AES128-SHA, c006 ECDHE-ECDSA-NULL-SHA,
    c007 ECDHE-ECDSA-RC4-SHA, c008 ECDHE-ECDSA-DES-CBC3-SHA
  `,
  'ECDHE-RSA': `
    c030 ECDHE-RSA-AES256-GCM-SHA384, cca8 ECDHE-RSA-CHACHA20-POLY1305,
    c02f ECDHE-RSA-AES128-GCM-SHA256, c028 ECDHE-RSA-AES256-SHA384, c027 ECDHE-RSA-AES128-SHA256,
    c014 ECDHE-RSA-AES256-SHA, c013 ECDHE-RSA-AES128-SHA, c010 ECDHE-RSA-NULL-SHA,
    c011 ECDHE-RSA-RC4-SHA, c012 ECDHE-RSA-DES-CBC3-SHA
  `,
  'DHE-RSA': `
    009f DHE-RSA-AES256-GCM-SHA384, ccaa DHE-RSA-CHACHA20-POLY1305, 009e DHE-RSA-AES128-GCM-SHA256,
    006b DHE-RSA-AES256-SHA256, 0067 DHE-RSA-AES128-SHA256, 0039 DHE-RSA-AES256-SHA,
    0033 DHE-RSA-AES128-SHA, 0016 DHE-RSA-DES-CBC3-SHA
  `,
  RSA: `
    009d AES256-GCM-SHA384, 009c AES128-GCM-SHA256, 003d AES256-SHA256, 003c AES128-SHA256,
    0035 AES256-SHA, 002f AES128-SHA, 003b NULL-SHA256, 0002 NULL-SHA, 0001 NULL-MD5,
    000a DES-CBC3-SHA, 0004 RC4-MD5, 0005 RC4-SHA, 0009 DES-CBC-SHA, 0003 EXP-RC4-MD5,
    0008 EXP-DES-CBC-SHA
  `,
  anonymous: `
    00a7 ADH-AES256-GCM-SHA384, 00a6 ADH-AES128-GCM-SHA256, 006d ADH-AES256-SHA256,
    006c ADH-AES128-SHA256, c019 AECDH-AES256-SHA, 003a ADH-AES256-SHA, c018 AECDH-AES128-SHA,
    0034 ADH-AES128-SHA, c015 AECDH-NULL-SHA
  `,
}

/** A suite of which a hello gives the number. */
export interface Suite {
  readonly name: string
  readonly keyExchange: KeyExchange
}

const suites = new Map<number, Suite>(
  Object.entries(byKind).flatMap(([kind, list]) =>
    list.split(',').map((item): [number, Suite] => {
      const [code = '', name = ''] = item.trim().split(' ')
      return [Number.parseInt(code, 16), { name, keyExchange: kind as KeyExchange }] // a key of the table
    }),
  ),
)

/** The suite with this number; undefined for one that boot firmware has no use for (PSK, DSS, Camellia …). */
export function suiteOf(code: number): Suite | undefined {
  return suites.get(code)
}

/** Its name, or its number where it has none here. */
export function suiteName(code: number): string {
  return suites.get(code)?.name ?? signals.get(code) ?? hex(code)
}

/** Numbers that say something and are no suites. */
const signals = new Map([
  [0x00ff, 'renegotiation'],
  [0x5600, 'fallback'],
])

/** RFC 8701: browsers offer numbers that mean nothing, so that servers stay tolerant. */
export function isGrease(code: number): boolean {
  return (code & 0x0f0f) === 0x0a0a && code >> 8 === (code & 0xff)
}

/** Ciphers that no TLS library of today offers any more. */
export function isWeak({ name }: Suite): boolean {
  return /RC4|DES-|NULL|^EXP/.test(name)
}

/** `0x00ff`. */
export function hex(code: number): string {
  return `0x${code.toString(16).padStart(4, '0')}`
}

const versions: Readonly<Record<number, string>> = {
  768: 'SSL 3.0',
  769: 'TLS 1.0',
  770: 'TLS 1.1',
  771: 'TLS 1.2',
  772: 'TLS 1.3',
}

/** `TLS 1.2`. */
export function versionName(code: number): string {
  return versions[code] ?? hex(code)
}

const groups: Readonly<Record<number, string>> = {
  23: 'P-256',
  24: 'P-384',
  25: 'P-521',
  29: 'X25519',
  30: 'X448',
  256: 'ffdhe2048',
  257: 'ffdhe3072',
  258: 'ffdhe4096',
  259: 'ffdhe6144',
  260: 'ffdhe8192',
  4587: 'SecP256r1MLKEM768',
  4588: 'X25519MLKEM768',
  4589: 'SecP384r1MLKEM1024',
}

/** `X25519`. */
export function groupName(code: number): string {
  return groups[code] ?? hex(code)
}

const hashes = ['none', 'MD5', 'SHA-1', 'SHA-224', 'SHA-256', 'SHA-384', 'SHA-512']
const schemes: Readonly<Record<number, string>> = {
  2052: 'RSA-PSS SHA-256',
  2053: 'RSA-PSS SHA-384',
  2054: 'RSA-PSS SHA-512',
  2055: 'Ed25519',
  2056: 'Ed448',
  2057: 'RSA-PSS-PSS SHA-256',
  2058: 'RSA-PSS-PSS SHA-384',
  2059: 'RSA-PSS-PSS SHA-512',
}

/** `RSA SHA-256`: RFC 5246's pairs, and RFC 8446's numbers, which go on from them. */
export function signatureName(code: number): string {
  const [hash, key] = [hashes[code >> 8], ['', 'RSA', 'DSA', 'ECDSA'][code & 0xff]]
  return schemes[code] ?? (hash === undefined || !key ? hex(code) : `${key} ${hash}`)
}
