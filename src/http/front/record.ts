import { X509Certificate } from 'node:crypto'
import type { BootStory } from '../../boot/story.ts'
import { type ClientHello, parseClientHello } from '../../handshake/client-hello.ts'
import { diagnose, type KeyType } from '../../handshake/diagnosis.ts'
import { likelyClient } from '../../handshake/known-clients.ts'
import { groupName, isGrease, suiteName, suiteOf, versionName } from '../../handshake/suites.ts'
import type { PendingConnection } from './pending-connection.ts'

/** Whoever connects writes these lists: the longest that real clients send fit. */
const maxListed = 40

/** Puts failed handshakes on record: who it likely was, what it offered, what went wrong and what to change. */
export function handshakeRecorder(
  story: Pick<BootStory, 'handshakeFailed'>,
  keys: readonly KeyType[],
): (arrival: PendingConnection, error: Error | undefined) => void {
  return (arrival, error) => {
    const hello = arrival.hello === undefined ? undefined : parseClientHello(arrival.hello)
    const likely = hello === undefined ? undefined : likelyClient(hello)
    const code = codeOf(error)
    const { cause, reason, advice } = diagnose({ ...arrival, code, hello, likely, keys })
    story.handshakeFailed({
      cause,
      source: arrival.source,
      detail: {
        cause,
        reason: arrival.detail === undefined ? reason : `${reason}: ${arrival.detail}`,
        advice,
        ...(code === undefined ? {} : { code }),
        ...(arrival.via === undefined ? {} : { via: arrival.via }),
        ...(likely === undefined ? {} : { client: likely.name, match: likely.match, origin: likely.origin }),
        ...(hello === undefined ? {} : { offered: offeredBy(hello) }),
      },
    })
  }
}

function codeOf(error: Error | undefined): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code
  // OpenSSL 3.5 has a slash in some: ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE.
  if (typeof code === 'string' && /^[A-Z0-9_/]{1,80}$/.test(code)) return code
  return error === undefined ? undefined : 'unknown'
}

/** What a hello offers, in words, bounded. */
export function offeredBy(hello: ClientHello): Readonly<Record<string, unknown>> {
  const real = (codes: readonly number[]): number[] => codes.filter((code) => !isGrease(code))
  const suites = real(hello.suites)
  const groups = real(hello.groups)
  const exchanges = new Set(suites.map((code) => suiteOf(code)?.keyExchange ?? 'other'))
  if (suites.includes(0x00ff)) exchanges.delete('other') // a sign, and no suite
  return {
    versions: real(hello.versions).map(versionName).slice(0, 8),
    keyExchange: [...exchanges],
    suites: suites.slice(0, maxListed).map(suiteName),
    ...(suites.length > maxListed ? { moreSuites: suites.length - maxListed } : {}),
    ...(groups.length === 0 ? {} : { groups: groups.slice(0, maxListed).map(groupName) }),
    ...(hello.serverName === undefined ? {} : { serverName: hello.serverName }),
    ...(hello.alpn.length === 0 ? {} : { alpn: hello.alpn }),
    ...(hello.maxFragmentLength === undefined ? {} : { maxFragmentLength: hello.maxFragmentLength }),
  }
}

/** The kinds of keys that a listener's options have certificates for. */
export function keyTypesOf({ cert }: Readonly<Record<string, unknown>>): KeyType[] {
  const chains = (Array.isArray(cert) ? cert : [cert]).filter((one) => typeof one === 'string')
  const types = chains.map((pem) => new X509Certificate(pem).publicKey.asymmetricKeyType)
  return [
    ...new Set(
      types.flatMap((type): KeyType[] => (type === 'rsa' ? ['RSA'] : type === 'ec' ? ['ECDSA'] : [])),
    ),
  ]
}
