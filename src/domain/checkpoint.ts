import { createHash } from 'node:crypto'
import { PawlError } from '../errors.ts'
import { genesisHash } from './event.ts'

/**
 * A checkpoint says where every chain of events was at one moment, signed, so that a copy kept elsewhere shows later what
 * was edited, cut off or thrown away since. What is signed is small whatever the fleet's size: the number of chains and
 * events, and one digest over the list of places. The list goes beside it; who has only the signed part asks the server
 * for the list, and the digest tells whether it is the one.
 */

/** Where one chain is: what was trimmed before it, and its last event. */
export interface ChainPlace {
  readonly chain: string
  readonly baseSeq: number
  readonly seq: number
  /** The hash of event `seq`; of the genesis where there is none yet. */
  readonly hash: string
}

/** What is signed. */
export interface CheckpointStatement {
  /** The public URL of the installation, for people. */
  readonly issuer: string
  /** SHA-256 of its root certificate: which installation it is. */
  readonly authority: string
  /** ISO 8601 UTC, to the second. */
  readonly at: string
  /** 1 for an installation's first checkpoint, and one more each time. */
  readonly seq: number
  /** SHA-256 of the JWS of the checkpoint before. */
  readonly before: string
  readonly chains: number
  /** Every event that ever was, trimmed ones too. */
  readonly events: number
  /** SHA-256 of the list of places, see `placesDigest`. */
  readonly places: string
}

/** The `typ` in the header of a signed statement: no other JWS of ours can be taken for one. */
export const checkpointType = 'pawl-checkpoint+jws'

/** The one algorithm: no header can choose another. */
export const checkpointAlgorithm = 'ES256'

/** The name of the format in a checkpoint's file. */
export const checkpointFormat = 'pawl.checkpoint/v1'

/** A checkpoint as it is kept in a file: the signed statement, and the list where it is there. */
export interface CheckpointFile {
  readonly jws: string
  readonly places: readonly ChainPlace[] | undefined
}

/** The digest of a checkpoint that none came before. */
export const noCheckpoint = genesisHash

/** SHA-256 over one JSON array a line, in the order of the chains' names by code unit. */
export function placesDigest(places: readonly ChainPlace[]): string {
  const hash = createHash('sha256')
  for (const place of inOrder(places)) hash.update(`${lineOf(place)}\n`)
  return hash.digest('hex')
}

/** SHA-256 of a signed statement: what the next one names. */
export function digestOfCheckpoint(jws: string): string {
  return createHash('sha256').update(jws).digest('hex')
}

/** Which installation a root certificate (PEM) is of: its SHA-256, in lower-case hex. */
export function authorityOf(pem: string): string {
  const [, body = ''] = /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/.exec(pem) ?? []
  return createHash('sha256').update(Buffer.from(body, 'base64')).digest('hex')
}

/** The claims of a statement, as they are signed. */
export function claimsOf(statement: CheckpointStatement): Readonly<Record<string, unknown>> {
  const { issuer, authority, at, seq, before, chains, events, places } = statement
  return { iss: issuer, iat: Date.parse(at) / 1000, authority, seq, before, chains, events, places }
}

/** Reads the claims of a statement whose signature was verified; throws `invalid`. */
export function parseClaims(text: string): CheckpointStatement {
  const claims = parseJson(text)
  const { iss, iat, authority, seq, before, chains, events, places } = claims
  if (typeof iss !== 'string' || !isCount(iat)) throw notOne('its claims are not those of a checkpoint')
  if (!isHash(authority) || !isHash(before) || !isHash(places)) throw notOne('its claims hold no digests')
  if (!isCount(seq) || !isCount(chains) || !isCount(events)) throw notOne('its claims hold no counts')
  return { issuer: iss, authority, at: timeOf(iat), seq, before, chains, events, places }
}

/** The text of a checkpoint's file: JSON, one chain a line. */
export function writeCheckpointFile({ jws, places }: CheckpointFile): string {
  if (places === undefined) return `${jws}\n`
  const lines = inOrder(places).map((place) => `    ${lineOf(place)}`)
  return `{\n  "format": "${checkpointFormat}",\n  "checkpoint": ${JSON.stringify(jws)},\n  "chains": [\n${lines.join(',\n')}\n  ]\n}\n`
}

/** Reads a checkpoint's file, or a signed statement alone; throws `invalid`. Nothing of it is proven yet. */
export function parseCheckpointFile(text: string): CheckpointFile {
  const alone = text.trim()
  if (isCompactJws(alone)) return { jws: alone, places: undefined }
  const { format, checkpoint, chains } = parseJson(text)
  if (format !== checkpointFormat) throw notOne(`it is not of the format ${checkpointFormat}`)
  if (typeof checkpoint !== 'string' || !isCompactJws(checkpoint))
    throw notOne('it holds no signed statement')
  if (chains !== undefined && !Array.isArray(chains)) throw notOne('its "chains" is not a list')
  return { jws: checkpoint, places: chains?.map((line: unknown) => placeOf(line)) }
}

function placeOf(line: unknown): ChainPlace {
  const [chain, baseSeq, seq, hash] = Array.isArray(line) ? (line as unknown[]) : []
  if (typeof chain !== 'string' || !isCount(baseSeq) || !isCount(seq) || !isHash(hash))
    throw notOne('a line of its "chains" is not [name, base, number, hash]')
  return { chain, baseSeq, seq, hash }
}

function lineOf({ chain, baseSeq, seq, hash }: ChainPlace): string {
  return JSON.stringify([chain, baseSeq, seq, hash])
}

function inOrder(places: readonly ChainPlace[]): ChainPlace[] {
  return places.toSorted((a, b) => (a.chain < b.chain ? -1 : a.chain > b.chain ? 1 : 0))
}

function parseJson(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // told below
  }
  throw notOne('it is not JSON')
}

function isCompactJws(text: string): boolean {
  return text.length <= 16_384 && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)
}

function timeOf(seconds: number): string {
  const time = new Date(seconds * 1000)
  if (Number.isNaN(time.getTime())) throw notOne('its time is none')
  return time.toISOString()
}

function notOne(why: string): PawlError {
  return new PawlError('invalid', `not a checkpoint: ${why}`)
}
