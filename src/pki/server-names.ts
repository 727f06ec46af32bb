import { isIP } from 'node:net'
import { canonicalAddress } from '../domain/address.ts'
import type { Branded } from '../domain/brand.ts'
import { PawlError } from '../errors.ts'

/** What clients call the server: a host name in lower case, or an IP address in canonical form. No wildcard, no port. */
export type ServerName = Branded<string, 'ServerName'>

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** Reads a host name or an IP address (IPv6 with or without brackets); throws `invalid`. */
export function parseServerName(text: string): ServerName {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  if (isIP(bare) !== 0 && !bare.includes('%')) return canonicalAddress(bare) as ServerName
  const name = text.toLowerCase().replace(/\.$/, '')
  const labels = name.split('.')
  // A last label of digits alone makes a URL parser read an IPv4 address: such a name would never be asked for.
  const isHostName =
    name.length <= 253 && labels.every((l) => label.test(l)) && !/^\d+$/.test(labels.at(-1) ?? '')
  if (!isHostName) {
    throw new PawlError(
      'invalid',
      `${JSON.stringify(text.slice(0, 300))} is neither a host name nor an IP address`,
      {
        hint: 'give a name like boot.example.net or an address like 192.0.2.10, without scheme, port or wildcard',
      },
    )
  }
  return name as ServerName
}

/** The names for a listener's certificate: the public URL's host first, then `extra`, each once. */
export function serverNames(publicUrl: string, extra: readonly string[]): ServerName[] {
  return [...new Set([new URL(publicUrl).hostname, ...extra].map(parseServerName))]
}
