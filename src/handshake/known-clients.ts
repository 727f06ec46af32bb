import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ClientHello, findHello, parseClientHello } from './client-hello.ts'
import { isGrease } from './suites.ts'

/** A client whose hello is in the folder `hellos`. */
export interface KnownClient {
  /** The name of its file, and what `pawl doctor boot --need` calls it. */
  readonly id: ClientId
  readonly name: string
  readonly kind: 'ipxe' | 'firmware' | 'agent' | 'tool'
  /** `reconstructed`: built from what is published about it, since no binary could be had. */
  readonly origin: 'captured' | 'reconstructed'
  /** What the connection begins with, record headers included. */
  readonly bytes: Buffer
  readonly hello: ClientHello
}

const table = {
  'ipxe-2019': ['iPXE 1.0.0 (2015 to early 2019)', 'ipxe', 'reconstructed'],
  'ipxe-2022': ['iPXE 1.20.1 and 1.21.1 (2019 to 2022)', 'ipxe', 'reconstructed'],
  'ipxe-2023': ['iPXE 1.21.1+ (end of 2022 to 2023)', 'ipxe', 'reconstructed'],
  'ipxe-2024': ['iPXE 1.21.1+ (2024)', 'ipxe', 'reconstructed'],
  'ipxe-2025': ['iPXE 1.21.1+ (2025)', 'ipxe', 'captured'],
  'ipxe-2026': ['iPXE 2.0.0 (2026)', 'ipxe', 'captured'],
  'edk2-2022': ['UEFI HTTPS Boot, EDK2 of 2020 to 2022', 'firmware', 'captured'],
  'edk2-2025': ['UEFI HTTPS Boot, EDK2 of 2025', 'firmware', 'captured'],
  'edk2-2026': ['UEFI HTTPS Boot, EDK2 of 2026', 'firmware', 'captured'],
  agent: ["Pawl's own images (curl, TLS 1.3 only)", 'agent', 'captured'],
  curl: ['curl with OpenSSL 3.0', 'tool', 'captured'],
  openssl: ['openssl s_client 3.0', 'tool', 'captured'],
  node: ['Node.js 24', 'tool', 'captured'],
  wget: ['wget with GnuTLS 3.7', 'tool', 'captured'],
  python: ['Python 3.11 with OpenSSL 3.0', 'tool', 'captured'],
  go: ['Go 1.24 (epoxy_client is a Go program, too)', 'tool', 'captured'],
} as const satisfies Readonly<Record<string, readonly [string, KnownClient['kind'], KnownClient['origin']]>>

/** What a known client is called. */
export type ClientId = keyof typeof table

/** Every id, the oldest firmware first. */
export const clientIds = Object.keys(table) as ClientId[] // the keys of the table

let loaded: readonly KnownClient[] | undefined

/** All known clients, in the order of the table. Read once. */
export function knownClients(): readonly KnownClient[] {
  loaded ??= clientIds.map(load)
  return loaded
}

function load(id: ClientId): KnownClient {
  const [name, kind, origin] = table[id]
  const text = readFileSync(join(import.meta.dirname, 'hellos', `${id}.hex`), 'utf8')
  const bytes = Buffer.from(text.replaceAll(/^#.*$/gm, '').replaceAll(/\s/g, ''), 'hex')
  const found = findHello(bytes)
  const hello = found.state === 'hello' ? parseClientHello(found.message) : undefined
  if (hello === undefined) throw new Error(`hellos/${id}.hex is no ClientHello`)
  return { id, name, kind, origin, bytes, hello }
}

/** Who a hello is likely of. */
export interface Likely {
  readonly name: string
  /** `same`: it offers exactly this. `like`: most of it; another version, or another build. */
  readonly match: 'same' | 'like'
  readonly origin: KnownClient['origin'] | 'rule'
  /** Left out where a rule said it. */
  readonly id?: ClientId
  readonly kind?: KnownClient['kind']
}

/** More than any real client lists in all. Longer hellos cost time to compare, which whoever connects could have us waste. */
const maxListed = 500

/** What has to be the same of two hellos before they are told to be alike, of all that either offers. */
const alikeFrom = 0.75

/**
 * Guesses who says hello, by what it offers and in which order, as is usual (JA3). It is a guess: anyone can say any hello, so
 * nothing is decided by it.
 */
export function likelyClient(hello: ClientHello): Likely | undefined {
  const { versions, suites, extensions, groups, signatureAlgorithms } = hello
  const lists = [versions, suites, extensions, groups, signatureAlgorithms]
  if (lists.reduce((sum, { length }) => sum + length, 0) > maxListed) return undefined
  const own = signatureOf(hello)
  const features = featuresOf(hello)
  let best: { client: KnownClient; score: number } | undefined
  for (const client of knownClients()) {
    if (signatureOf(client.hello) === own) return likely(client, 'same')
    const score = similarity(features, featuresOf(client.hello))
    if (score > (best?.score ?? 0)) best = { client, score }
  }
  if (suites.some(isGrease)) return { name: 'a browser', match: 'like', origin: 'rule' }
  return best === undefined || best.score < alikeFrom ? undefined : likely(best.client, 'like')
}

function likely({ id, kind, name, origin }: KnownClient, match: Likely['match']): Likely {
  return { id, kind, name, match, origin }
}

/** These come and go with the address, the request and the connection, not with the client: name, ALPN, padding, resumption. */
const passing = new Set([0, 16, 21, 35, 41, 42])

function signatureOf(hello: ClientHello): string {
  return JSON.stringify([
    hello.versions,
    hello.suites.filter((code) => !isGrease(code)),
    hello.extensions.filter((type) => !passing.has(type) && !isGrease(type)),
    hello.groups.filter((code) => !isGrease(code)),
    hello.signatureAlgorithms,
    hello.maxFragmentLength ?? 0,
  ])
}

function featuresOf(hello: ClientHello): Set<string> {
  const lists = {
    v: hello.versions,
    s: hello.suites,
    e: hello.extensions.filter((type) => !passing.has(type)),
    g: hello.groups,
    a: hello.signatureAlgorithms,
    m: [hello.maxFragmentLength ?? 0],
  }
  return new Set(Object.entries(lists).flatMap(([kind, codes]) => codes.map((code) => `${kind}${code}`)))
}

function similarity(one: ReadonlySet<string>, other: ReadonlySet<string>): number {
  const both = [...one].filter((feature) => other.has(feature)).length
  return both / (one.size + other.size - both)
}
