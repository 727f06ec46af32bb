import { PawlError } from '../errors.ts'
import type { Connection } from './connection.ts'

/** Why a connection did not come about, by the error's code: what to say and, where it is not the usual, what to do. */
const causes: Readonly<Record<string, readonly [string, string?]>> = {
  ECONNREFUSED: ['nothing listens there'],
  ENOTFOUND: ['no such host'],
  EAI_AGAIN: ['its name cannot be looked up now'],
  EHOSTUNREACH: ['no route to it'],
  ENETUNREACH: ['no route to it'],
  ETIMEDOUT: ['no answer in time'],
  ECONNRESET: ['the connection was cut'],
  EPIPE: ['the connection was cut'],
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'its certificate is for other names',
    'use a name that the server was given with --name or --public-url',
  ],
  CERT_HAS_EXPIRED: ['its certificate has expired', 'check both clocks; a running server renews by itself'],
  CERT_NOT_YET_VALID: ['its certificate is not valid yet', 'check both clocks'],
}

/** What OpenSSL says in a handshake's error of its own (EPROTO), for the two that are likely. */
const handshakes: readonly (readonly [RegExp, string])[] = [
  [/wrong version number|packet length too long|http request/, 'it does not speak TLS'],
  [/protocol version|unsupported protocol/, 'it does not speak TLS 1.3'],
]

/** OpenSSL's names for a chain that does not end in the root we were given. */
const untrusted = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
])

/** The error for a server that could not be talked to. Says nothing that was sent. */
export function unreachable({ url, whenUnreachable }: Connection, cause: unknown): PawlError {
  const code = codeOf(cause)
  if (untrusted.has(code)) {
    return new PawlError('unreachable', `the server at ${url} has a certificate of another CA`, {
      hint: 'use the ca.crt of that server (--data DIR or PAWL_CA); if it should be the right one, trust nothing it says',
      cause,
    })
  }
  const [why, hint] = causes[code] ?? handshakeFault(cause) ?? [`connecting failed (${code})`]
  return new PawlError('unreachable', `the server at ${url} does not answer: ${why}`, {
    hint: hint ?? whenUnreachable,
    cause,
  })
}

function handshakeFault(cause: unknown): [string, string] | undefined {
  const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown }
  if (code !== 'EPROTO' && !String(code).startsWith('ERR_SSL_')) return undefined
  const known = handshakes.find(([pattern]) => pattern.test(String(message)))
  return [known?.[1] ?? 'the TLS handshake failed', 'is this the port of the operator listener?']
}

/** A name with several addresses fails with one error for each: the first has the code. */
function codeOf(error: unknown): string {
  const { code, errors } = (error ?? {}) as { code?: unknown; errors?: readonly { code?: unknown }[] }
  const known = code ?? errors?.[0]?.code
  return typeof known === 'string' ? known : 'unknown'
}
