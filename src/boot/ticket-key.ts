import { isPawlError, PawlError } from '../errors.ts'
import { addTicketKey, findTicketKey, forgetTicketKeys, replaceTicketKey } from '../storage/ticket-keys.ts'
import type { BootContext } from './context.ts'

/**
 * The key that seals TLS session tickets (RFC 5077 §4, RFC 8446 §4.6.1): the same in every process and replica on one database,
 * and after a restart, so that a client resumes its session wherever its next connection ends up. Whoever has the key can read
 * what was sent under its tickets, so each lives for one period and is removed from the database when the next one is used.
 *
 * Node takes one key at a time. At the turn of a period the tickets of the one before are worth nothing: their clients do a whole
 * handshake, once. A session may be resumed for 300 s only (open-boot.ts), so that meets one period's last 300 s of clients.
 */
export interface TicketKey {
  readonly period: number
  /** 48 bytes: name, HMAC key and AES key, as Node takes them. */
  readonly bytes: Uint8Array
}

/** What it takes. */
export type TicketContext = Pick<BootContext, 'storage' | 'sealer' | 'clock' | 'randomBytes'>

/** How long a key is used. */
export const ticketPeriodSeconds = 12 * 3600
const keyBytes = 48

/** The period that a time is in. Keys follow the clock, so that no process has to tell another. */
export function ticketPeriod(now: Date): number {
  return Math.floor(now.getTime() / 1000 / ticketPeriodSeconds)
}

/** The key of now; the first process that asks in a period makes it. */
export async function ticketKeyNow(context: TicketContext): Promise<TicketKey> {
  const { storage, clock } = context
  const period = ticketPeriod(clock())
  let row = await findTicketKey(storage.db, period)
  if (row === undefined) {
    await addTicketKey(storage.db, fresh(context, period))
    // One period is kept: a replica whose clock is behind must not make a second key for it.
    await forgetTicketKeys(storage.db, period - 1)
    row = await findTicketKey(storage.db, period)
  }
  const bytes = row === undefined ? undefined : opened(context, row)
  if (bytes !== undefined) return { period, bytes }
  // It was sealed by another settings key, or damaged. Nothing else hangs on it.
  if (row !== undefined) await replaceTicketKey(storage.db, fresh(context, period), row.sealed)
  const again = await findTicketKey(storage.db, period)
  const replaced = again === undefined ? undefined : opened(context, again)
  if (replaced !== undefined) return { period, bytes: replaced }
  throw new PawlError('key-unreadable', 'the key of TLS session tickets cannot be opened', {
    hint: 'are there replicas with another pki/settings.key?',
  })
}

function fresh({ sealer, randomBytes, clock }: TicketContext, period: number) {
  const key = Buffer.from(randomBytes(keyBytes)).toString('base64')
  return { period, sealed: sealer.seal(key, placeOf(period)), made_at: clock().toISOString() }
}

function opened(
  { sealer }: TicketContext,
  { period, sealed }: { readonly period: number; readonly sealed: string },
): Uint8Array | undefined {
  try {
    const bytes = Buffer.from(sealer.open(sealed, placeOf(period)), 'base64')
    return bytes.length === keyBytes ? bytes : undefined
  } catch (error) {
    if (isPawlError(error, 'key-unreadable')) return undefined
    throw error
  }
}

function placeOf(period: number): string {
  return `tls-ticket-key/${period}`
}
