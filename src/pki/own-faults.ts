/** What is wrong with certificates of the operator's own, or soon will be: for the start, for a renewal, for `pawl doctor`. */
import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { nameOf, type OwnCertificate, type OwnCertificates } from './own-files.ts'
import { keyUsagesOf } from './x509-library.ts'

/** One thing that is wrong. */
export interface OwnFault {
  /** `refuse`: nobody could be served with it. `fail`: nobody can now. `warn`: some cannot, or soon nobody. */
  readonly level: 'refuse' | 'fail' | 'warn'
  readonly found: string
  readonly advice: string
}

/** What a listener is called by. */
export interface OwnNames {
  /** The public URL's: without it nobody is served. */
  readonly needed: string
  readonly others: readonly string[]
}

const day = 86_400_000
const serverAuth = '1.3.6.1.5.5.7.3.1'
/** Leaf, two CAs and the root: firmware of the sticks and ROMs that are tried here takes as many. */
const usualChain = 4

/** Everything that is wrong. `firmware`: machines boot by it, so that what old firmware cannot do counts. */
export function faultsOf(
  own: OwnCertificates,
  names: OwnNames,
  now: Date,
  { firmware }: { firmware: boolean },
): OwnFault[] {
  const each = own.certificates.flatMap((one) => [
    ...purpose(one),
    ...coverage(one, names),
    ...keySize(one, firmware),
    ...dates(one, now),
    ...(firmware ? forFirmware(one) : []),
  ])
  const hasRsa = own.certificates.some(({ leaf }) => leaf.publicKey.asymmetricKeyType === 'rsa')
  if (!firmware || hasRsa) return each
  const found = 'there is no RSA certificate: iPXE before 2.0.0 and UEFI HTTPS Boot (EDK2) cannot boot'
  const advice = 'add an RSA one as bootCertFile, and this one as bootEcdsaCertFile'
  return [...each, { level: 'warn', found, advice }]
}

function purpose({ certFile, leaf }: OwnCertificate): OwnFault[] {
  const kind = leaf.publicKey.asymmetricKeyType
  const advice = 'ask the CA for a certificate for TLS servers'
  if (kind !== 'rsa' && kind !== 'ec')
    return [{ level: 'refuse', found: `${certFile} has a key of the kind ${kind}`, advice: 'RSA or ECDSA' }]
  if (leaf.ca) return [{ level: 'refuse', found: `${certFile} begins with a CA, ${nameOf(leaf)}`, advice }]
  // Node's name for the extended key usage.
  if (leaf.keyUsage === undefined || leaf.keyUsage.includes(serverAuth)) return []
  return [{ level: 'refuse', found: `${certFile} is not for TLS servers`, advice }]
}

function coverage({ certFile, leaf }: OwnCertificate, { needed, others }: OwnNames): OwnFault[] {
  const isFor = (name: string): boolean =>
    (isIP(name) === 0 ? leaf.checkHost(name, { subject: 'never' }) : leaf.checkIP(name)) !== undefined
  const has = `it has ${leaf.subjectAltName ?? 'no names'}`
  if (!isFor(needed)) {
    const advice = `${has}: ask for one with this name, or change the public URL`
    return [{ level: 'refuse', found: `${certFile} is not for ${needed}, which clients call`, advice }]
  }
  const lacking = others.filter((name) => !isFor(name))
  if (lacking.length === 0) return []
  const found = `${certFile} is not for ${lacking.join(', ')}`
  return [{ level: 'warn', found, advice: `${has}: whoever calls by another is refused` }]
}

function keySize({ certFile, leaf }: OwnCertificate, firmware: boolean): OwnFault[] {
  const { asymmetricKeyType: kind, asymmetricKeyDetails: details = {} } = leaf.publicKey
  const { modulusLength: bits = 0, namedCurve: curve = '' } = details
  if (kind === 'rsa' && bits < 2048)
    return [{ level: 'refuse', found: `${certFile}: RSA of ${bits} bits is broken`, advice: 'take 2048' }]
  if (!firmware) return []
  if (kind === 'rsa' && bits > 2048) {
    const found = `${certFile}: RSA of ${bits} bits: each handshake costs the server about ${bits > 3072 ? 'three times' : 'twice'} as much CPU`
    return [{ level: 'warn', found, advice: 'take 2048 bits, as firmware is slow too' }]
  }
  if (kind !== 'ec' || curve === 'prime256v1') return []
  const found = `${certFile}: iPXE does not know the curve ${curve}`
  return [{ level: 'warn', found, advice: 'take P-256' }]
}

/** The leaf's dates count now, and soon; those over it only when they end first. */
function dates({ certFile, leaf, chain }: OwnCertificate, now: Date): OwnFault[] {
  const renew = 'renew it; the server takes the new one by itself'
  for (const one of chain) {
    const which = one === leaf ? certFile : `${certFile}: the certificate of ${nameOf(one)}`
    if (now < one.validFromDate)
      return [
        {
          level: 'fail',
          found: `${which} is not good before ${one.validFromDate.toISOString()}`,
          advice: 'is the clock right?',
        },
      ]
    if (now >= one.validToDate)
      return [{ level: 'fail', found: `${which} has ended on ${dateOf(one.validToDate)}`, advice: renew }]
  }
  const left = leaf.validToDate.getTime() - now.getTime()
  // ACME clients renew with a third left; one of 6 days must not be called late for all of its life.
  const late = Math.min(14 * day, (leaf.validToDate.getTime() - leaf.validFromDate.getTime()) / 5)
  if (left < late) {
    const found = `${certFile} ends on ${leaf.validToDate.toISOString()}`
    return [{ level: 'warn', found, advice: 'it should have been renewed by now: look at your ACME client' }]
  }
  const first = chain.find((one) => one.validToDate < leaf.validToDate)
  if (first === undefined) return []
  const found = `${certFile}: ${nameOf(first)} over it ends before it, on ${dateOf(first.validToDate)}`
  return [{ level: 'warn', found, advice: 'ask the CA for a chain that lasts' }]
}

/** What boot firmware stumbles over. */
function forFirmware({ certFile, leaf, chain, unused }: OwnCertificate): OwnFault[] {
  const faults: OwnFault[] = []
  const warn = (found: string, advice: string): void => {
    faults.push({ level: 'warn', found: `${certFile}: ${found}`, advice })
  }
  const bytes = chain.reduce((sum, { raw }) => sum + raw.length, 0)
  if (chain.length > usualChain)
    warn(
      `${chain.length} certificates (${bytes} bytes) are sent in each handshake`,
      'ask the CA for a shorter chain: old firmware is slow, and may give up',
    )
  if (unused > 0) warn(`${unused} of its certificates lead nowhere, and are not sent`, 'take them out')
  const root = chain.at(-1)
  if (root !== undefined && !root.checkIssued(root))
    warn(`${nameOf(root)} in bootCaFile is no root`, 'give the root itself: iPXE trusts nothing else')
  if (leaf.publicKey.asymmetricKeyType !== 'rsa') return faults
  if (chain.some((one) => one.publicKey.asymmetricKeyType !== 'rsa'))
    warn(
      'a CA over this RSA certificate has no RSA key: iPXE before 2.0.0 and UEFI HTTPS Boot cannot boot',
      'ask for a chain of RSA alone',
    )
  const usages = keyUsagesOf(leaf)
  if (usages !== undefined && !usages.includes('keyEncipherment'))
    warn(
      'it may not be used for the RSA key exchange, the only one that firmware before 2020 has',
      'ask for the key usage keyEncipherment',
    )
  return faults
}

function dateOf(date: Date): string {
  return date.toISOString().slice(0, 10)
}

/** How the root is sent, in words: `pawl doctor` says it. */
export function rootWords(own: OwnCertificates): string {
  return own.certificates.every(({ rootInFile }) => rootInFile)
    ? 'the root is sent with it'
    : 'the root is sent with it, from the file of roots'
}

/** The last certificate of the chain that firmware is served by. */
export function rootOf({ certificates }: OwnCertificates): X509Certificate {
  const rsa = certificates.find(({ leaf }) => leaf.publicKey.asymmetricKeyType === 'rsa') ?? certificates[0]
  return rsa?.chain.at(-1) as X509Certificate // a chain begins with its leaf, and there is one
}
