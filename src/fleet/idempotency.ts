import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import type { SettingsSealer } from '../boot/settings-sealer.ts'
import { addSeconds, type Clock } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'
import type { IdempotentAnswerRow } from '../storage/api-tables.ts'
import type { Queries, Tx } from '../storage/database.ts'
import {
  dropAnswers,
  dropOldAnswers,
  findAnswer,
  storeAnswer,
  takeKey,
} from '../storage/idempotent-answers.ts'

/**
 * A request whose answer was lost may be sent again under its Idempotency-Key (draft-ietf-httpapi-idempotency-key-header):
 * it is done once, and the first answer is given again. The answer is stored by the transaction that makes the change, so
 * there is never one without the other. Answers may hold secrets (an operator token is shown once), so all of them are
 * sealed under the request's key, of which only a hash is stored, and again under the server's own: whoever has the database
 * opens none of them, not even those of keys that can be guessed.
 */
export interface Idempotency {
  readonly key: string
  /** What was asked: method, path and body, in one text. */
  readonly request: string
}

/** Who asks, and under which key. */
export interface Asker {
  readonly actor: string
  readonly idempotency?: Idempotency | undefined
}

/** An answer is kept this long. */
export const answerLifetimeSeconds = 24 * 3600

/** So many answers of one operator are kept; past that the oldest is forgotten early. */
export const maxAnswers = 10_000

/** What it takes to find an answer. */
interface Once {
  readonly storage: { readonly db: Queries }
  readonly clock: Clock
  readonly sealer: SettingsSealer
}

/** The first answer to this request, where it has been answered. Throws `idempotency-key-reused` for another request. */
export async function firstAnswer<T>(
  { storage, clock, sealer }: Once,
  { actor, idempotency }: Asker,
): Promise<T | undefined> {
  if (idempotency === undefined) return undefined
  const row = await findAnswer(storage.db, keyOf(actor, idempotency), oldest(clock()))
  return row === undefined ? undefined : (read(row, idempotency, sealer) as T)
}

/** Gives the first answer again, where there is one, before anything is looked at that has changed since. */
export async function once<T>(context: Once, asker: Asker, work: () => Promise<T>): Promise<T> {
  return (await firstAnswer<T>(context, asker)) ?? work()
}

/** Does a piece of work and stores its answer, in one transaction; where it is done already, gives its answer again. */
export async function onceIn<T>(
  { tx, now, sealer }: { readonly tx: Tx; readonly now: Date; readonly sealer: SettingsSealer },
  { actor, idempotency }: Asker,
  work: () => Promise<T>,
): Promise<T> {
  if (idempotency === undefined) return work()
  await dropAnswers(tx, actor, oldest(now), maxAnswers - 1)
  const key = keyOf(actor, idempotency)
  const request = requestOf(idempotency)
  if (!(await takeKey(tx, { ...key, request, answer: null, created_at: now.toISOString() }))) {
    const row = await findAnswer(tx, key, oldest(now))
    if (row === undefined) throw new PawlError('conflict', 'another request under this key ends just now')
    return read(row, idempotency, sealer) as T
  }
  const answer = await work()
  const sealed = seal(JSON.stringify(answer ?? null), idempotency.key)
  await storeAnswer(tx, key, sealer.seal(sealed, key.key_hash))
  return answer
}

/** Forgets answers of all operators that are too old. */
export function forgetAnswers({ storage, clock }: Omit<Once, 'sealer'>): Promise<void> {
  return dropOldAnswers(storage.db, oldest(clock()))
}

function read(row: IdempotentAnswerRow, idempotency: Idempotency, sealer: SettingsSealer): unknown {
  if (row.request !== requestOf(idempotency)) {
    throw new PawlError('idempotency-key-reused', 'this Idempotency-Key came with another request before', {
      hint: 'make a new key for each new request; send the old one only with the same path and body',
    })
  }
  // Null is seen only inside the transaction that made the row, which asks once.
  return JSON.parse(open(sealer.open(row.answer ?? '', row.key_hash), idempotency.key))
}

function oldest(now: Date): string {
  return addSeconds(now, -answerLifetimeSeconds).toISOString()
}

function keyOf(actor: string, { key }: Idempotency): { actor: string; key_hash: string } {
  return { actor, key_hash: createHash('sha256').update(`pawl idempotency ${key}`).digest('hex') }
}

/** A request's body may hold what only the key's holder knows, so this too says nothing without the key. */
function requestOf({ key, request }: Idempotency): string {
  return createHmac('sha256', derive(key, 'request')).update(request).digest('hex')
}

function seal(text: string, key: string): string {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', derive(key, 'answer'), nonce)
  const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64url')
}

function open(sealed: string, key: string): string {
  const bytes = Buffer.from(sealed, 'base64url')
  const decipher = createDecipheriv('aes-256-gcm', derive(key, 'answer'), bytes.subarray(0, 12))
  decipher.setAuthTag(bytes.subarray(12, 28))
  return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString('utf8')
}

function derive(key: string, use: 'answer' | 'request'): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key, '', `pawl idempotent ${use} v1`, 32))
}
