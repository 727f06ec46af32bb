import { createHash } from 'node:crypto'
import { PawlError } from '../errors.ts'
import { faultsOf, type OwnFault, type OwnNames, rootOf } from './own-faults.ts'
import { type OwnCertificates, type OwnFiles, readOwn, textsOf } from './own-files.ts'
import { clientsOf, type ListenerKind, type ServerTls, tlsSettings } from './tls.ts'
import { rootFingerprint } from './x509.ts'

/** What a listener with certificates of the operator's own is made of. */
export interface OwnTlsRequest {
  readonly kind: ListenerKind
  readonly files: OwnFiles
  readonly names: OwnNames
  readonly now: Date
  /** The CA of client certificates. */
  readonly clientCa?: string
  /** What is told at the start: an expired certificate keeps nobody from starting the server, and from seeing why. */
  readonly warn: (fault: OwnFault) => void
}

/**
 * A listener's certificates from files of the operator's own. Throws for those with which nobody could be served. `reload`
 * takes what changed, if it is whole and good; else it throws once why not, and goes on with what it has.
 */
export function loadOwnTls(request: OwnTlsRequest): ServerTls {
  const { kind, files, warn } = request
  let seen = digestOf(files) // before they are read: what changes meanwhile is seen later
  let own = take(request, request.now, 'refuse', warn)
  /** What was there a moment ago and was no good: told only if it is still so, since it may be half written. */
  let suspect: string | undefined
  return {
    options: () => ({
      key: own.certificates.map(({ key }) => key),
      cert: own.certificates.map(({ chain }) => chain.map(String).join('')),
      ...tlsSettings[kind],
      ...clientsOf(request.clientCa),
    }),
    get notAfter() {
      return new Date(Math.min(...own.certificates.map(({ leaf }) => leaf.validToDate.getTime())))
    },
    get roots() {
      return own.roots
    },
    get root() {
      return rootFingerprint(rootOf(own).toString())
    },
    renewIfDue: async () => false,
    async reload(now) {
      const there = digestOf(files)
      if (there === seen) {
        suspect = undefined
        return false
      }
      try {
        own = take(request, now, 'fail', warn)
      } catch (error) {
        if (suspect !== there) {
          suspect = there
          return false
        }
        seen = there // told once; the next change is looked at again
        throw error
      }
      seen = there
      suspect = undefined
      return true
    },
  }
}

/** Reads them; throws `certificate-invalid` for a fault of level `worst` or worse. */
function take(
  { kind, files, names }: OwnTlsRequest,
  now: Date,
  worst: 'refuse' | 'fail',
  warn: OwnTlsRequest['warn'],
): OwnCertificates {
  const own = readOwn(files)
  const faults = faultsOf(own, names, now, { firmware: kind === 'boot' })
  const bad = faults.find(({ level }) => level === 'refuse' || level === worst)
  if (bad !== undefined) throw new PawlError('certificate-invalid', bad.found, { hint: bad.advice })
  faults.forEach(warn)
  return own
}

/** Of all files together; what cannot be read is a state like another. */
function digestOf(files: OwnFiles): string {
  let texts: string
  try {
    texts = textsOf(files)
  } catch (error) {
    texts = error instanceof Error ? error.message : String(error)
  }
  return createHash('sha256').update(texts).digest('hex')
}
