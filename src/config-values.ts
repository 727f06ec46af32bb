import { isIP } from 'node:net'
import { type AddressRange, parseAddressRange, unfitForMachine } from './domain/address.ts'
import { parsePostgresUrl } from './domain/postgres-url.ts'
import { type GroupRole, parseGroupRole } from './domain/sign-in.ts'
import { parseSyslogServer, type SyslogServer } from './domain/syslog-server.ts'
import { isPawlError } from './errors.ts'
import { parseServerName, type ServerName } from './pki/server-names.ts'

/** Where a listener binds. `host` has no brackets; port 0 lets the system pick one. */
export interface ListenAddress {
  readonly host: string
  readonly port: number
}

/** Levels of pino, the quietest last. */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/**
 * Why a value is refused. The message is the rule alone, to follow "must be": the caller knows the setting, the place and
 * the value, and whether the value may be shown.
 */
export class ValueFault extends Error {
  override readonly name = 'ValueFault'
}

/** Reads `HOST:PORT`: `127.0.0.1:8444`, `[::]:8443`, `localhost:0`. */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const [, v6, other, digits] = match ?? []
  const host = v6 ?? other
  const wellFormed = v6 === undefined ? other !== undefined && isHost(other) : isIP(v6) === 6
  if (host === undefined || !wellFormed) {
    throw new ValueFault('HOST:PORT, like 127.0.0.1:8444 or [::]:8443 (every address, both families)')
  }
  const port = Number(digits)
  if (port > 65535) throw new ValueFault('HOST:PORT with a port of at most 65535 (0 picks a free one)')
  return Object.freeze({ host, port })
}

/** Writes a listen address so that `parseListen` reads the same back. */
export function formatListen({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** Reads `https://HOST[:PORT]`; without a path, since routes are added to it. The default port is left out. */
export function parsePublicUrl(text: string): string {
  const rule = 'https://HOST or https://HOST:PORT, without user, path or query'
  // The URL parser forgives much (spaces, tabs, backslashes, missing slashes): what is not plainly right is refused first.
  if (!/^https:\/\/[^\s/\\?#@]+\/?$/i.test(text)) throw new ValueFault(rule)
  const url = URL.canParse(text) ? new URL(text) : undefined
  // Port 0 picks a port to listen on; nobody can connect to it.
  if (url === undefined || url.port === '0') throw new ValueFault(rule)
  const host = fromDomain(() => parseServerName(url.hostname), rule)
  if (isIP(host) !== 0 && unfitForMachine(host) !== undefined)
    throw new ValueFault(`what machines reach: ${host} ${unfitForMachine(host)}`)
  return `https://${host.includes(':') ? `[${host}]` : host}${url.port === '' ? '' : `:${url.port}`}`
}

/** Reads the issuer of identity documents (OpenID Connect Discovery 1.0 §3): https, no query, no fragment; a path may be there. */
export function parseIdentityIssuer(text: string): string {
  const rule = 'https://HOST[:PORT][/PATH], without user or query'
  const found = /^(https:\/\/[^\s/\\?#@]+)((?:\/[A-Za-z0-9._~-]+)*)\/?$/i.exec(text)
  if (found?.[1] === undefined || text.length > 200) throw new ValueFault(rule)
  return `${parsePublicUrl(found[1])}${found[2] ?? ''}`
}

/** Reads one of the server's names. */
export function parseName(text: string): ServerName {
  return fromDomain(
    () => parseServerName(text),
    'a host name or an IP address, without scheme, port or wildcard',
  )
}

/** Reads where iPXE sends its console. */
export function parseSyslog(text: string): SyslogServer {
  return fromDomain(() => parseSyslogServer(text), 'syslog://ADDRESS or syslogs://NAME, without a port')
}

/** Reads a proxy's address or prefix; returns it in canonical form. */
export function parseProxy(text: string): string {
  const rule = 'an IP address or a CIDR prefix without host bits'
  const range: AddressRange = fromDomain(() => parseAddressRange(text), rule)
  // Whoever is trusted writes the source address, which is evidence of a node.
  if (range.prefixLength === 0)
    throw new ValueFault('narrower than everyone: a trusted proxy can claim any address')
  return `${range.address}/${range.prefixLength}`
}

/** Reads an address or prefix that webhooks may go to. */
export function parseNetwork(text: string): AddressRange {
  const range = fromDomain(() => parseAddressRange(text), 'an IP address or a CIDR prefix without host bits')
  if (range.prefixLength === 0) throw new ValueFault('narrower than everything: it would allow every address')
  return range
}

/** Reads a folder or file name. */
export function parsePath(text: string): string {
  if (text.trim() === '' || text.includes('\0')) throw new ValueFault('the name of a folder')
  return text
}

/** Reads a file name. */
export function parseFile(text: string): string {
  if (text.trim() === '' || text.includes('\0')) throw new ValueFault('the name of a file')
  return text
}

/** Reads where the database is: a `postgres://` URL, or a file for SQLite. */
export function parseDatabase(text: string): string {
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(text)
  const url = parsePostgresUrl(text)
  if (url?.forWrites === false)
    throw new ValueFault('a server that takes writes: leave target_session_attrs out, or say read-write')
  if (isUrl ? url === undefined : text.trim() === '' || text.includes('\0')) {
    throw new ValueFault(
      'a file for SQLite, or postgres://USER:PASSWORD@HOST:PORT/NAME; several hosts as HOST:PORT,HOST:PORT',
    )
  }
  return text
}

/** Where artifacts are kept. */
export type ArtifactPlace =
  | { readonly kind: 'folder'; readonly path: string }
  /** `prefix` is empty or ends in a slash. */
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string }

/** Reads where artifacts are kept: a folder, or `s3://BUCKET[/PREFIX]`. */
export function parseArtifacts(text: string): ArtifactPlace {
  const isFolder = !/^[a-z][a-z0-9+.-]*:\/\//i.test(text) && text.trim() !== '' && !text.includes('\0')
  if (isFolder) return Object.freeze({ kind: 'folder', path: text })
  const [, bucket, path = ''] =
    /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([\w./-]*))?$/.exec(text) ?? []
  const parts = path.split('/').filter((part) => part !== '')
  if (bucket === undefined || parts.includes('..') || parts.includes('.') || path.length > 512)
    throw new ValueFault('a folder, or s3://BUCKET or s3://BUCKET/PREFIX with letters, digits and ._-/')
  return Object.freeze({ kind: 's3', bucket, prefix: parts.map((part) => `${part}/`).join('') })
}

/** Reads the address of an object store; without a path, and without a user, since a log may show it. */
export function parseEndpoint(text: string): string {
  const url = /^https?:\/\/[^\s/\\?#@]+\/?$/.test(text) && URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || url.port === '0')
    throw new ValueFault('https://HOST[:PORT] or http://HOST[:PORT], without user, path or query')
  return url.origin
}

/** Reads the address of an OpenID Connect provider; by HTTP only on this machine. */
export function parseIssuer(text: string): string {
  const url = /^https?:\/\/[^\s\\?#@]+$/.test(text) && URL.canParse(text) ? new URL(text) : undefined
  const isHere = url !== undefined && /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(url.hostname)
  if (url === undefined || url.port === '0' || (url.protocol === 'http:' && !isHere))
    throw new ValueFault('https://HOST[:PORT][/PATH], without user or query; http:// on loopback only')
  return text
}

/** Reads who we are to the provider, a scope, or the name of a claim. */
export function parseWord(text: string): string {
  if (!/^[!-~]{1,255}$/.test(text)) throw new ValueFault('1 to 255 printable characters without a space')
  return text
}

/** Reads `GROUP=ROLE`. */
export function parseGroupRoleSetting(text: string): GroupRole {
  const parsed = parseGroupRole(text)
  if (parsed === undefined)
    throw new ValueFault('GROUP=ROLE, where the role is viewer, publisher, operator or admin')
  return Object.freeze(parsed)
}

/** A parser for one of a few words. */
export function oneOf<Word extends string>(...words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((known) => known === text)
    if (word === undefined) throw new ValueFault(`one of ${words.join(', ')}`)
    return word
  }
}

/** Reads the name of a region. */
export function parseRegion(text: string): string {
  if (!/^[A-Za-z0-9-]{1,64}$/.test(text)) throw new ValueFault('the name of a region, like eu-central-1')
  return text
}

/** Reads a log level. */
export function parseLogLevel(text: string): LogLevel {
  const level = logLevels.find((known) => known === text)
  if (level === undefined) throw new ValueFault(`one of ${logLevels.join(', ')}`)
  return level
}

/** Reads where TFTP listens, or `off`. */
export function parseTftpListen(text: string): ListenAddress | 'off' {
  if (text === 'off') return text
  try {
    return parseListen(text)
  } catch {
    throw new ValueFault('off, or HOST:PORT, like [::]:69 (every address, both families) or 192.0.2.10:69')
  }
}

/** A parser for whole decimal numbers from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d{1,16}$/.test(text) || value < least || value > most) {
      throw new ValueFault(`a whole number from ${least} to ${most}`)
    }
    return value
  }
}

/** The same, or 0 for what is turned off. */
export function zeroOr(least: number, most: number): (text: string) => number {
  const parse = wholeNumber(0, most)
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : -1
    if (value !== 0 && (value < least || value > most))
      throw new ValueFault(`0, or a whole number from ${least} to ${most}`)
    return parse(text)
  }
}

function isHost(text: string): boolean {
  try {
    parseServerName(text)
    return true
  } catch {
    return false
  }
}

function fromDomain<T>(parse: () => T, rule: string): T {
  try {
    return parse()
  } catch (error) {
    if (isPawlError(error, 'invalid')) throw new ValueFault(rule)
    throw error
  }
}
