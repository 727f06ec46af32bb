import type { ClientRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { createRequire } from 'node:module'
import { isIP, type LookupFunction } from 'node:net'
import type { AddressRange } from '../domain/address.ts'
import { addressUse } from '../domain/webhook-address.ts'
import { noAddress } from './answer.ts'
import { type Resolve, resolveHost } from './resolve.ts'

// An import of it would load its WebSocket client too, at each start.
const { request: httpRequest } = createRequire(import.meta.url)('node:http') as typeof import('node:http')

/** Where something may not be sent; the message says which address is meant. */
export class NotAllowed extends Error {
  override readonly name = 'NotAllowed'
}

/** Whom a server is believed by, and what proves us to it. */
export interface OutgoingTarget {
  readonly url: URL
  /** PEM: the only roots that the server is believed by; null: the system's. */
  readonly ca: string | null
  /** PEM: a client certificate, with its key. */
  readonly client?: { readonly certificate: string; readonly key: string } | undefined
}

/** Which networks beside the public Internet are open. */
export interface OutgoingRules {
  readonly allowed: readonly AddressRange[]
  /** The setting that lists them, for what is told. */
  readonly setting: string
  readonly resolve?: Resolve | undefined
}

/** The host of a URL as it is connected to: IPv6 without brackets. */
export function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '')
}

/**
 * The addresses of a server that may be connected to. They are what is connected to, by number: a name that is asked
 * for again could give another answer (DNS rebinding). Throws NotAllowed.
 */
export async function openAddresses(
  url: URL,
  { allowed, setting, resolve = resolveHost }: OutgoingRules,
): Promise<readonly string[]> {
  const host = hostOf(url)
  const found = isIP(host) === 0 ? await resolve(host) : [host]
  if (found.length === 0) throw new NotAllowed(noAddress)
  const judged = found.slice(0, 16).map((address) => ({ address, use: addressUse(address, allowed) }))
  const open = judged.filter(({ use }) => use === 'listed' || (use === 'public' && url.protocol === 'https:'))
  if (open.length > 0) return open.map(({ address }) => address)
  const closed = judged.find(({ use }) => use === 'closed')
  throw new NotAllowed(
    closed === undefined
      ? `http:// is for networks that ${setting} lists`
      : `${closed.address} is not of the public Internet, nor in ${setting}`,
  )
}

/** A POST to one of these addresses, not sent yet. Its connection is its own; redirects are not followed. */
export function requestTo(
  { url, ca, client }: OutgoingTarget,
  addresses: readonly string[],
  signal: AbortSignal,
): ClientRequest {
  const host = hostOf(url)
  const common = {
    method: 'POST',
    host,
    port: portOf(url),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host },
    agent: false as const,
    lookup: lookupOf(addresses),
    signal,
    maxHeaderSize: 16 * 1024,
  }
  if (url.protocol === 'http:') return httpRequest(common)
  return httpsRequest({ ...common, ...tlsOf(host, ca, client) })
}

/** The port of a URL, written or not. */
export function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
}

/** Answers with these addresses, whatever the name. */
export function lookupOf(addresses: readonly string[]): LookupFunction {
  return (_host, options, done) => {
    const all = addresses.map((address) => ({ address, family: isIP(address) }))
    const [first] = all
    if (options.all === true) done(null, all)
    else done(null, first?.address ?? '', first?.family ?? 4)
  }
}

/** What TLS is told of the other end, and of ours. */
export function tlsOf(
  host: string,
  ca: string | null,
  client: OutgoingTarget['client'],
): { minVersion: 'TLSv1.2'; servername?: string; ca?: string; cert?: string; key?: string } {
  return {
    minVersion: 'TLSv1.2',
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === null ? {} : { ca }),
    ...(client === undefined ? {} : { cert: client.certificate, key: client.key }),
  }
}

/** Waits for `work` no longer than the signal allows. */
export function unless<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
    work.then(resolve, reject)
  })
}
