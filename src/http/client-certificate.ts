import type { Server } from 'node:https'
import type { TLSSocket } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import type { PresentedCertificate } from '../boot/certificate.ts'
import { offersTls13 } from '../handshake/client-hello.ts'

/**
 * What OpenSSL says of a chain that is right but for its dates: those are in the row too, where the owner is told. It says the same of
 * another CA's, since its last finding is the one that it tells: that such a certificate is ours, only a row can say.
 */
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
  const outdated = socket.authorized !== true && datesOnly.has(String(socket.authorizationError))
  return {
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    trusted: socket.authorized === true || outdated,
    ...(outdated ? { outdated: true } : {}),
    subject: (certificate.subject ?? '').slice(0, 200).replace(/[^ -~]/g, ' '),
  }
}

/** Which clients of the boot listener are asked for a certificate. */
export type CertificatesAsked = 'tls1.3' | 'always' | 'never'

/**
 * Says, for each connection before TLS gets it, whether the client is asked for a certificate; undefined where there is nothing
 * to decide, since the listener has no CA to check one with.
 *
 * Not every client survives the question. iPXE before April 2025 without a certificate of its own (no stock build has one) hangs
 * up with "Operation not permitted (410de38f)": ipxe/ipxe#1431, mended by #1437. Later builds (1.21.1 of May 2025, 2.0.0), EDK2's
 * HTTPS Boot and curl answer that they have none and go on (tried). No iPXE speaks TLS 1.3, and our agents speak nothing else: so those are
 * asked, and a site whose iPXE builds have certificates, or none of whose is older, says `always`.
 */
export function askingForCertificates(
  server: Server,
  asked: CertificatesAsked,
): ((hello: Buffer | undefined) => void) | undefined {
  // Node gives each connection of a server its own `requestCert`, read from the server when the connection comes to TLS; a test
  // looks whether it still does.
  const asking = server as Server & { requestCert?: boolean }
  if (asking.requestCert !== true) return undefined
  return (hello) => {
    asking.requestCert =
      asked === 'always' || (asked === 'tls1.3' && hello !== undefined && offersTls13(hello))
  }
}
