import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { isIP } from 'node:net'
import { connect, type DetailedPeerCertificate } from 'node:tls'
import { PawlError } from '../errors.ts'

/** Reads a SHA-256 as people copy it: with or without colons, in any case. Throws `usage`. */
export function parseFingerprint(text: string): string {
  const plain = text
    .replace(/^sha-?256[:=]/i, '')
    .replace(/[:\s]/g, '')
    .toLowerCase()
  if (/^[0-9a-f]{64}$/.test(plain)) return plain
  throw new PawlError('usage', '--ca-fingerprint is not a SHA-256: 64 hex digits, with or without colons')
}

/**
 * Fetches the root certificate with this fingerprint from the server that should have it; PEM. Nothing is believed of
 * what the server sends but that one certificate, and nothing is sent to it. Throws `unreachable`.
 */
export async function fetchPinnedCa(url: string, fingerprint: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  const socket = connect({
    host,
    port: port === '' ? 443 : Number(port),
    ...(isIP(host) === 0 ? { servername: host } : {}),
    minVersion: 'TLSv1.3',
    rejectUnauthorized: false, // what it sends is compared with what the user knows
    timeout: 10_000,
  })
  socket.once('timeout', () => socket.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })))
  try {
    await once(socket, 'secureConnect')
    const found = chainOf(socket.getPeerCertificate(true)).find((der) => sha256(der) === fingerprint)
    if (found !== undefined) return pemOf(found)
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code ?? 'unknown')
    throw new PawlError('unreachable', `the server at ${url} does not answer: connecting failed (${code})`, {
      cause,
    })
  } finally {
    socket.destroy()
  }
  throw new PawlError('unreachable', `the server at ${url} has no certificate with this fingerprint`, {
    hint: 'compare it with the ca.crt of the server; if that is right, somebody is in between: send nothing there',
  })
}

/** What the server sent, each once: a root is its own issuer. */
function chainOf(leaf: DetailedPeerCertificate): Buffer[] {
  const chain: Buffer[] = []
  for (let at: DetailedPeerCertificate | undefined = leaf; at?.raw !== undefined && chain.length < 10; ) {
    chain.push(at.raw)
    at = at.issuerCertificate === at ? undefined : at.issuerCertificate
  }
  return chain
}

function sha256(der: Buffer): string {
  return createHash('sha256').update(der).digest('hex')
}

function pemOf(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}
