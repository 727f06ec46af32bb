import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import type { AddressRange } from '../domain/address.ts'
import { addressUse } from '../domain/webhook-address.ts'
import { PawlError } from '../errors.ts'

/** What webhooks and extensions have in common: where they lead, and whose certificates count. */

const maxPemCharacters = 32 * 1024
const pemBlock = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g

/** Refuses what could never be sent; throws `invalid`. A name is judged by its addresses, at every try: it may lead elsewhere by then. */
export function checkMayLead(
  url: URL,
  { allowed, setting }: { readonly allowed: readonly AddressRange[]; readonly setting: string },
): void {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const use = isIP(host) === 0 ? undefined : addressUse(host, allowed)
  const hint = `list its network in ${setting}`
  if (use === 'closed')
    throw new PawlError('invalid', `${host} is not an address of the public Internet`, { hint })
  if (url.protocol === 'http:' && (use === 'public' || allowed.length === 0))
    throw new PawlError('invalid', 'http:// is for networks that are listed', {
      hint: `use https://, or ${hint}`,
    })
}

/** Reads one to eight certificates; throws `invalid` naming the field. */
export function parseCertificates(pem: string | null, field: string): string | null {
  if (pem === null) return null
  const certificates = pem.length > maxPemCharacters ? [] : certificatesIn(pem)
  if (certificates.length < 1 || certificates.length > 8)
    throw new PawlError('invalid', `${field} is not one to eight certificates (PEM)`)
  return certificates.map((certificate) => certificate.toString()).join('')
}

/** What an event or a plan tells of certificates; null of none. */
export function fingerprintsOf(pem: string | null): string[] | null {
  return pem === null ? null : certificatesIn(pem).map(({ fingerprint256 }) => fingerprint256)
}

function certificatesIn(pem: string): X509Certificate[] {
  try {
    return (pem.match(pemBlock) ?? []).map((block) => new X509Certificate(block))
  } catch {
    return []
  }
}
