/**
 * What each kind of certificate is for, as one table.
 *
 * There is no client certificate under the root, and there may be none: iPXE does not check the extended key usage
 * `serverAuth` (tried with 2.0.0), so it takes any certificate of its root for a server's. Client certificates come from
 * another CA, `client-root`, and never carry the server's names. For the same reason a code-signing certificate has no
 * names, and a common name that is no host's.
 */

/** The kinds of certificate that Pawl makes. */
export type CertificateKind =
  | 'root'
  | 'issuing'
  | 'boot-server'
  | 'boot-server-ecdsa'
  | 'operator-server'
  | 'code-signing'
  | 'client-root'
  | 'operator-client'
  | 'node-client'

/** Key usages of RFC 5280 §4.2.1.3 that Pawl's certificates have. */
export type KeyUsage = 'digitalSignature' | 'keyEncipherment' | 'keyCertSign' | 'cRLSign'

/** How certificates of one kind are made. */
export interface CertificateProfile {
  readonly lifetimeDays: number
  /** How many CAs may follow this one; undefined for a certificate that is no CA. */
  readonly pathLength?: number
  readonly keyUsages: readonly KeyUsage[]
  /** The one extended key usage it carries. */
  readonly extendedKeyUsage?: 'serverAuth' | 'codeSigning' | 'clientAuth'
}

/** Certificates begin this long before they are made: a machine whose battery is flat has a clock that runs behind. */
export const backdatedDays = 7

/** Keys that sign images live longer than a listener's, and nothing slow uses them. */
export const signingKeyBits = 3072

/** RSA, because iPXE before 2.0.0 and UEFI's HTTPS Boot know nothing else; 2048 bits, because 2019's ROMs are slow. */
export const rsaBits = 2048

export const certificateProfiles: Readonly<Record<CertificateKind, CertificateProfile>> = {
  // As long as the machines live: boot media carry its fingerprint, and a new root means new media.
  root: { lifetimeDays: 25 * 365, pathLength: 1, keyUsages: ['keyCertSign', 'cRLSign'] },
  issuing: {
    lifetimeDays: 10 * 365,
    pathLength: 0,
    keyUsages: ['keyCertSign', 'cRLSign'],
  },
  // keyEncipherment is for the RSA key exchange, the only one that some firmware offers.
  'boot-server': {
    lifetimeDays: 365,
    keyUsages: ['digitalSignature', 'keyEncipherment'],
    extendedKeyUsage: 'serverAuth',
  },
  // A key of another kind, for clients that can: it has no key exchange of its own.
  'boot-server-ecdsa': {
    lifetimeDays: 365,
    keyUsages: ['digitalSignature'],
    extendedKeyUsage: 'serverAuth',
  },
  'operator-server': { lifetimeDays: 90, keyUsages: ['digitalSignature'], extendedKeyUsage: 'serverAuth' },
  // Its end stops publishing, not booting: what was signed while it was good stays so.
  'code-signing': { lifetimeDays: 365, keyUsages: ['digitalSignature'], extendedKeyUsage: 'codeSigning' },
  'client-root': { lifetimeDays: 10 * 365, pathLength: 0, keyUsages: ['keyCertSign'] },
  // At most: what is asked for may be shorter, and each is checked against its row at every request.
  'operator-client': { lifetimeDays: 825, keyUsages: ['digitalSignature'], extendedKeyUsage: 'clientAuth' },
  'node-client': { lifetimeDays: 5 * 365, keyUsages: ['digitalSignature'], extendedKeyUsage: 'clientAuth' },
}
