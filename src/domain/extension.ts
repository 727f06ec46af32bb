import { PawlError } from '../errors.ts'
import { quote } from './node.ts'

/**
 * An extension is a service of the user's own that a booting node may ask through us, by the name of an operation: ePoxy's extensions,
 * with a signature by which the service knows who asks.
 */

/** The whole rule for an operation's name, for schemas: it is a name of iPXE's and of a kernel argument, too. */
export const operationPattern = '^[a-z][a-z0-9_]{0,62}$'

/** Names that ePoxy's stage 1 and kernel arguments use for something else. */
export const reservedOperations: readonly string[] = [
  'hostname',
  'images_version',
  'interface',
  'ip',
  'ipv4',
  'ipv6',
  'project',
  'report',
  'server',
  'stage1chain',
  'stage2',
  'stage3',
]

/** Bounds of what can be configured. A worker gives its keeper 30 s for an answer. */
export const extensionLimits = {
  timeoutSeconds: { least: 1, most: 25, usual: 10 },
  maxAnswerBytes: { least: 1, most: 1024 * 1024, usual: 64 * 1024 },
  /** Extensions that there can be: each is a label of a metric. */
  extensions: 64,
  /** Operations that a profile can allow. */
  ofProfile: 16,
  /** So often a boot may ask for one operation: `epoxy_client` asks every 60 s for up to 6 hours. */
  callsOfSession: 400,
  queryCharacters: 1024,
} as const

/** What an answer may be, if nobody says. */
export const usualAnswerTypes: readonly string[] = ['application/json', 'text/plain']

/** A media type without parameters, for schemas. */
export const mediaTypePattern = '^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$'

/** Reads an operation's name; throws `invalid`. */
export function parseOperation(text: string): string {
  if (!new RegExp(operationPattern).test(text))
    throw new PawlError(
      'invalid',
      `${quote(text)} is not an operation's name: 1 to 63 of a-z, 0-9 and "_", beginning with a letter`,
    )
  if (reservedOperations.includes(text))
    throw new PawlError('invalid', `an operation cannot be called ${quote(text)}: stage 1 has that name`)
  return text
}

/** The media type of a `Content-Type` header, without parameters; undefined where there is none. */
export function mediaTypeOf(header: string | undefined): string | undefined {
  const type = header?.split(';', 1)[0]?.trim().toLowerCase()
  return type === undefined || !new RegExp(mediaTypePattern).test(type) ? undefined : type
}

/** What a service is told of a booting node: ePoxy's V1. */
export interface ExtensionV1 {
  readonly hostname: string
  readonly ipv4Address: string
  readonly ipv6Address: string
  /** When the tokens of the boot were made. */
  readonly lastBoot: Date
  /** What stood behind the `?` of the node's request, as it stood there. */
  readonly rawQuery: string
}

/**
 * The body of a request to a service, byte for byte as ePoxy's `json.MarshalIndent(req, "", "    ")` writes it: the order of the fields,
 * four spaces, times without trailing zeros (Go's RFC3339Nano), and `&`, `<` and `>` escaped.
 */
export function epoxyBody(v1: ExtensionV1): string {
  const fields = {
    hostname: v1.hostname,
    ipv4_address: v1.ipv4Address,
    ipv6_address: v1.ipv6Address,
    last_boot: goTime(v1.lastBoot),
    raw_query: v1.rawQuery,
  }
  return JSON.stringify({ v1: fields }, null, 4).replace(
    /[&<>\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function goTime(time: Date): string {
  return time
    .toISOString()
    .replace(/\.(\d*?)0*Z$/, (_all, digits: string) => (digits === '' ? 'Z' : `.${digits}Z`))
}
