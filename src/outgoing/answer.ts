import type { ClientRequest, IncomingMessage } from 'node:http'

/**
 * What every request shares that we send to somebody else's server: its answer is bounded, in bytes here and in time by the
 * signal that the request was made with, and what goes wrong is told in words of our own.
 */

const maxAnswerBytes = 16 * 1024

/** Sends the body, and waits for the head of the answer. */
export function answerTo(request: ClientRequest, body: Buffer): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.on('error', reject) // for good: a socket may fail after the answer, too
    request.once('response', resolve)
    request.end(body)
  })
}

/** At most so many bytes of the body; what follows is not read. The status has decided already: a body that breaks off is no fault. */
export async function beginningOf(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes >= maxAnswerBytes) break
    }
  } catch {}
  return Buffer.concat(chunks).subarray(0, maxAnswerBytes)
}

/** Of a name without an address. */
export const noAddress = 'its name has no address'

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was reset',
  EHOSTUNREACH: 'its host cannot be reached',
  ENETUNREACH: 'its network cannot be reached',
  ENOTFOUND: noAddress,
  EAI_AGAIN: 'DNS does not answer',
  ETIMEOUT: 'DNS does not answer',
  ETIMEDOUT: 'no answer in time',
  EPROTO: 'TLS failed: is it HTTPS?',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
}

const untrusted = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  // Another CA of the same name, as each cluster has its own "kubernetes".
  'CERT_SIGNATURE_FAILURE',
  'INVALID_CA',
])

/** The code that Node.js gave an error of a request; undefined where it has none. */
export function codeOf(error: unknown): string | undefined {
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [error]
  const code = (first as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/** Whether there is no answer because the server's certificate is not of a CA that is trusted. */
export function isUntrusted(error: unknown): boolean {
  return untrusted.has(codeOf(error) ?? '')
}

/** Why there is no answer; an error's message may hold the URL, so it is not shown. `caSetting` is where a CA is named. */
export function reasonOf(error: unknown, caSetting: string): string {
  const code = codeOf(error)
  if (code === undefined) return 'the exchange failed'
  if (untrusted.has(code)) return `its certificate is not of a CA that is trusted (${caSetting})`
  return reasons[code] ?? `the exchange failed (${code.slice(0, 64)})`
}
