import type { TLSSocket } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import type { PresentedCertificate } from '../boot/certificate.ts'

/** What OpenSSL says of a chain that is right but for its dates: those are in the row too, where the owner is told. */
const datesOnly = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

/**
 * The client certificate of a request's connection; undefined where none was presented. Only the connection itself is asked: a
 * header can be written by anyone. It comes before `authorized`, which says true too of a resumed session of TLS 1.3 that never
 * had a certificate; one that had comes with it again, out of its ticket.
 */
export function clientCertificateOf({ raw }: Pick<FastifyRequest, 'raw'>): PresentedCertificate | undefined {
  const socket = raw.socket as Partial<TLSSocket> // `inject` has none of TLS
  const certificate = socket.getPeerX509Certificate?.()
  if (certificate === undefined) return undefined
  return {
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    trusted: socket.authorized === true || datesOnly.has(String(socket.authorizationError)),
    subject: (certificate.subject ?? '').slice(0, 200).replace(/[^ -~]/g, ' '),
  }
}
