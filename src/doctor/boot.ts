import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import type { Config } from '../config.ts'
import { PawlError } from '../errors.ts'
import { helloFor } from '../handshake/for-server.ts'
import { type ClientId, clientIds, type KnownClient, knownClients } from '../handshake/known-clients.ts'
import { alertName, type ServerFlight } from '../handshake/server-flight.ts'
import { suiteName, suiteOf, versionName } from '../handshake/suites.ts'
import { type Replayed, type ReplayTarget, replay } from './boot-replay.ts'
import { parseBootUrl, wantsProxyHeader } from './boot-target.ts'
import { readAnnounced } from './examine.ts'

/** What `pawl doctor boot` is told. */
export interface BootExamination {
  /** `https://HOST:PORT` of a boot listener; undefined for the one that runs on the data folder. */
  readonly url: string | undefined
  /** Clients that have to be able to boot: their ids, or `all`. */
  readonly need: readonly string[]
  /** The listener wants a PROXY header from here. */
  readonly proxyProtocol: boolean
  readonly now: Date
  readonly dataDir?: string | undefined
  readonly config?: Config | undefined
}

/** What one client gets from the listener. */
export interface ClientFinding {
  readonly id: ClientId
  readonly name: string
  readonly origin: KnownClient['origin']
  readonly canBoot: boolean
  readonly needed: boolean
  /** What was chosen, or how it ended. */
  readonly outcome: string
  readonly version: string | null
  readonly suite: string | null
  readonly keyExchange: string | null
  /** `RSA 2048`; null where it cannot be seen: TLS 1.3 encrypts it. */
  readonly certificate: string | null
  readonly chainLength: number | null
  readonly rootIncluded: boolean | null
  /** Null where the client asks for no limit. */
  readonly fragmentLimitHonoured: boolean | null
  readonly asksCertificate: boolean
  /** Why it cannot boot, and what to change. */
  readonly change: readonly string[]
  /** What somebody should look at, though it can. */
  readonly warnings: readonly string[]
}

/** What all known clients get. */
export interface BootExamined {
  readonly url: string
  /** False where a client cannot boot that is needed. */
  readonly ok: boolean
  readonly clients: readonly ClientFinding[]
}

/** Reads `--need`: ids, or `all`; throws `usage`. */
export function parseNeed(words: readonly string[]): ClientId[] {
  if (words.includes('all')) return clientIds
  return words.map((word) => {
    const known = clientIds.find((id) => id === word)
    if (known !== undefined) return known
    throw new PawlError('usage', `no client is called ${JSON.stringify(word.slice(0, 60))}`, {
      hint: `use one of ${clientIds.join(', ')}, or all`,
    })
  })
}

/** Says each known client's hello to a running boot listener and judges what it is given. Changes nothing there. */
export async function examineBoot(examination: BootExamination): Promise<BootExamined> {
  const need = parseNeed(examination.need)
  const url = examination.url === undefined ? announcedUrl(examination) : parseBootUrl(examination.url)
  const { hostname, port } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  const from = examination.url === undefined ? (examination.config?.proxyProtocolFrom ?? []) : []
  const proxyProtocol = examination.proxyProtocol || wantsProxyHeader(new URL(url), from)
  const target: ReplayTarget = { host, port: Number(port === '' ? 443 : port), proxyProtocol }
  const clients: ClientFinding[] = []
  // One after the other: a listener that is bounded must not be tried by a storm.
  for (const client of knownClients()) {
    const replayed = await replay(helloFor(client, host), target)
    if (replayed.kind === 'unreachable') {
      throw new PawlError('unreachable', `nothing answers at ${url} (${replayed.reason})`, {
        hint: 'is the server running, and is this its boot listener?',
      })
    }
    clients.push(judge(client, replayed, { need, now: examination.now, host }))
  }
  return { url, ok: clients.every(({ id, canBoot }) => canBoot || !need.includes(id)), clients }
}

/** Where the server of a data folder said that it listens. */
function announcedUrl({ dataDir = '' }: BootExamination): string {
  const boot = readAnnounced(dataDir)?.boot
  if (boot !== undefined) return boot
  throw new PawlError('usage', `no server has run on ${dataDir}`, {
    hint: 'name the boot listener with --url https://HOST:PORT, or the data folder with --data',
  })
}

function judge(
  client: KnownClient,
  { kind, flight }: Exclude<Replayed, { kind: 'unreachable' }>,
  { need, now, host }: { need: readonly ClientId[]; now: Date; host: string },
): ClientFinding {
  const chain = chainOf(flight)
  const change: string[] = []
  const warnings: string[] = []
  const suite = flight.suite === undefined ? undefined : suiteOf(flight.suite)
  const served = flight.complete && flight.alert === undefined && flight.broken === undefined
  const rootIncluded = chain.length === 0 ? null : chain.some(isSelfSigned)
  if (!served || flight.suite === undefined) change.push(adviceFor(client, kind, flight))
  else if (chain.length > 0) {
    change.push(...faultsOf(client, chain, host, now))
    warnings.push(...worriesOf(client, chain, rootIncluded === true))
  }
  if (flight.asksCertificate === true && brokenByQuestion.has(client.id)) {
    change.push('it is asked for a client certificate, and hangs up: ask TLS 1.3 clients only')
  }
  const wanted = client.hello.maxFragmentLength
  const honoured =
    wanted === undefined || flight.suite === undefined
      ? null
      : flight.maxFragmentLength === wanted && flight.largestRecord <= wanted
  if (honoured === false)
    warnings.push(`records of ${flight.largestRecord} bytes, and it asks for at most ${wanted}`)
  return {
    id: client.id,
    name: client.name,
    origin: client.origin,
    canBoot: change.length === 0,
    needed: need.includes(client.id),
    outcome: outcomeOf(kind, flight),
    version: flight.version === undefined ? null : versionName(flight.version),
    suite: flight.suite === undefined ? null : suiteName(flight.suite),
    keyExchange: suite === undefined ? null : exchangeOf(suite.keyExchange, flight.group),
    certificate: chain[0] === undefined ? null : keyOf(chain[0]),
    chainLength: chain.length === 0 ? null : chain.length,
    rootIncluded,
    fragmentLimitHonoured: honoured,
    asksCertificate: flight.asksCertificate === true,
    change,
    warnings,
  }
}

/** iPXE before April 2025 ends the handshake when it is asked and has none (ipxe/ipxe#1431). */
const brokenByQuestion: ReadonlySet<ClientId> = new Set(['ipxe-2019', 'ipxe-2022', 'ipxe-2023', 'ipxe-2024'])

function chainOf({ certificates = [] }: ServerFlight): X509Certificate[] {
  try {
    return certificates.map((der) => new X509Certificate(der))
  } catch {
    return []
  }
}

function outcomeOf(kind: Replayed['kind'], flight: ServerFlight): string {
  if (flight.alert !== undefined) return `alert: ${alertName(flight.alert)}`
  if (flight.broken === true) return 'no TLS'
  if (flight.suite !== undefined) {
    const version = versionName(flight.version ?? 0)
    return `${version} ${suiteName(flight.suite)}${flight.retry === true ? ', another key share first' : ''}`
  }
  return kind === 'silent' ? 'no answer' : 'hung up'
}

function exchangeOf(kind: string, group: string | undefined): string {
  return group === undefined ? kind : `${kind} ${group.replace(/^DHE /, '')}`
}

/** `RSA 2048`, `ECDSA P-256`. */
function keyOf({ publicKey }: X509Certificate): string {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey
  if (type === 'rsa') return `RSA ${details?.modulusLength}`
  if (type === 'ec')
    return `ECDSA ${{ prime256v1: 'P-256', secp384r1: 'P-384' }[details?.namedCurve ?? ''] ?? details?.namedCurve}`
  return String(type)
}

function isSelfSigned(one: X509Certificate): boolean {
  return one.checkIssued(one)
}

/** What makes this client refuse a chain that it was sent. */
function faultsOf(client: KnownClient, chain: readonly X509Certificate[], host: string, now: Date): string[] {
  const [leaf] = chain
  if (leaf === undefined) return []
  const faults: string[] = []
  const named = isIP(host) === 0 ? leaf.checkHost(host, { subject: 'never' }) : leaf.checkIP(host)
  if (named === undefined)
    faults.push(`the certificate is not for ${host}: give the server the name, or use one that it has`)
  const dead = chain.find((one) => one.validFromDate > now || one.validToDate < now)
  if (dead !== undefined)
    faults.push('a certificate of the chain is not valid now: restart the server, look at its clock')
  const takesEcdsa = client.hello.signatureAlgorithms.some((code) => (code & 0xff) === 3)
  const ecdsa = chain.some((one, at) => !isSelfSigned(one) && isEcdsa(chain[at + 1] ?? one))
  if (!takesEcdsa && ecdsa)
    faults.push('the chain is signed with ECDSA, which it cannot check: have an RSA chain beside it')
  return faults
}

function isEcdsa({ publicKey }: X509Certificate): boolean {
  return publicKey.asymmetricKeyType !== 'rsa'
}

/** Firmware has little memory and slow arithmetic, and iPXE asks the Internet for what is missing. */
const longChain = 3

function worriesOf(client: KnownClient, chain: readonly X509Certificate[], rootIncluded: boolean): string[] {
  if (client.kind !== 'ipxe' && client.kind !== 'firmware') return []
  return [
    ...(chain.length > longChain
      ? [`a chain of ${chain.length} certificates: up to ${longChain} is usual`]
      : []),
    ...(client.kind === 'ipxe' && !rootIncluded
      ? [
          'the root is not sent: an iPXE that knows only its fingerprint (pawl ipxe trust) cannot check the chain',
        ]
      : []),
  ]
}

/** What to change for a client that got no ServerHello, or an alert. */
function adviceFor(client: KnownClient, kind: Replayed['kind'], flight: ServerFlight): string {
  if (flight.broken === true) return 'what answers there speaks no TLS: is this the boot listener?'
  if (flight.alert === undefined) {
    return kind === 'silent'
      ? 'nothing came back: look for something between that drops it'
      : 'the server hung up: does it expect a PROXY header (--proxy-protocol), or is something between?'
  }
  const exchanges = new Set(client.hello.suites.map((code) => suiteOf(code)?.keyExchange))
  exchanges.delete(undefined)
  if (alertName(flight.alert) === 'protocol version')
    return 'it speaks another version of TLS: serve TLS 1.2 and 1.3'
  const takesEcdsa = exchanges.has('ECDHE-ECDSA') || exchanges.has('TLS 1.3')
  if (!takesEcdsa) {
    return exchanges.size === 1
      ? 'it has RSA key exchange alone: have an RSA certificate, and leave suites such as AES128-SHA on'
      : 'it takes RSA certificates alone: have one, and leave DHE and RSA key exchange on'
  }
  return 'no suite or signature in common: leave the suites as they are made, and have an RSA certificate'
}
