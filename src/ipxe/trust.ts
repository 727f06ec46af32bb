/**
 * Whom an iPXE trusts about the server. A build has the SHA-256 of one root certificate in it, that of a public authority
 * unless it was built otherwise; where that is overwritten with ours, the binary believes our root and nobody else. No
 * compiler is needed. BIOS builds are packed, so that it cannot be found in them.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { PawlError } from '../errors.ts'
import { type Examined, examineIpxe, publicFingerprint } from './examine.ts'
import type { IpxeEntry } from './folder.ts'

/** The fingerprint that iPXE keeps of a root certificate: the SHA-256 of its DER, in lower-case hex. */
export function fingerprintOf(rootPem: string): string {
  const { raw } = new X509Certificate(rootPem)
  return createHash('sha256').update(raw).digest('hex')
}

/** Whom a binary trusts, as far as can be told; `roots` are the fingerprints to look for besides the public one. */
export function trustOf(bytes: Buffer, examined: Examined, roots: readonly string[]): IpxeEntry['trust'] {
  if (examined.features === null) return { kind: 'unknown' }
  if (!examined.features.includes('https')) return { kind: 'nobody' }
  const root = roots.find((fingerprint) => occurrences(bytes, fingerprint) > 0)
  const isPublic = occurrences(bytes, publicFingerprint) > 0
  // Built with both: it is neither one's alone.
  if (root !== undefined) return isPublic ? { kind: 'unknown' } : { kind: 'root', fingerprint: root }
  return isPublic ? { kind: 'public' } : { kind: 'unknown' }
}

/** A copy that trusts one root, and what had to be given up for it. */
export interface TrustingCopy {
  readonly bytes: Buffer
  /** Whether it trusted that root before, so that nothing was changed. */
  readonly already: boolean
  readonly brokeSignature: boolean
}

/**
 * A copy of a UEFI binary that trusts the root with `fingerprint` and no other. Throws `invalid` for a binary without HTTPS,
 * for a packed one, and for one in which iPXE's own fingerprint does not occur exactly once; `conflict` for one that is
 * signed for Secure Boot, unless `breakSignature`.
 */
export function trustRoot(
  bytes: Buffer,
  name: string,
  fingerprint: string,
  options: { readonly breakSignature?: boolean } = {},
): TrustingCopy {
  const { platform, features, signed } = examineIpxe(bytes, name)
  if (platform === 'bios' || features === null) {
    throw new PawlError(
      'invalid',
      `${name} is a BIOS binary, which is packed: whom it trusts cannot be changed`,
      {
        hint: 'use the UEFI binary, or build iPXE with TRUST=ca.crt',
      },
    )
  }
  if (!features.includes('https')) {
    throw new PawlError('invalid', `${name} has no HTTPS: it trusts nobody, and cannot boot from Pawl`, {
      hint: 'take a newer one: pawl ipxe fetch',
    })
  }
  const theirs = occurrences(bytes, publicFingerprint)
  if (theirs === 0 && occurrences(bytes, fingerprint) > 0)
    return { bytes, already: true, brokeSignature: false }
  if (theirs !== 1) throw notOnce(name, theirs)
  if (signed && options.breakSignature !== true) {
    throw new PawlError('conflict', `${name} is signed for Secure Boot, which any change breaks`, {
      hint: 'give --break-signature if Secure Boot is off there, or sign the copy with your own key',
    })
  }
  const copy = Buffer.from(bytes)
  copy.write(fingerprint, copy.indexOf(Buffer.from(publicFingerprint, 'hex')), 'hex')
  return { bytes: copy, already: false, brokeSignature: signed }
}

function notOnce(name: string, times: number): PawlError {
  const found = times === 0 ? 'does not occur' : `occurs ${times} times`
  return new PawlError(
    'invalid',
    `${name} cannot be changed: iPXE's own root fingerprint ${found} in it, where it must once`,
    {
      hint: 'it was built with a root of its own (TRUST=…), or packed: build it with TRUST=ca.crt',
    },
  )
}

function occurrences(bytes: Buffer, fingerprint: string): number {
  const wanted = Buffer.from(fingerprint, 'hex')
  let count = 0
  for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) count += 1
  return count
}
