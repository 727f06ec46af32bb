import type { Logger } from 'pino'
import { canonicalAddress } from '../domain/address.ts'
import type { TftpMeter, TftpRefusal } from '../domain/meters.ts'
import { openLineLimit } from './limits.ts'
import type { Active } from './table.ts'
import type { GivenUp } from './transfer.ts'

/** How a transfer ended. */
export type Outcome =
  | 'done'
  | 'aborted'
  | 'evicted'
  | 'stopped'
  /** Its first answer came to another port of ours: from one who guesses, not from the peer. */
  | 'astray'
  | GivenUp

/** Why somebody was not served. */
export interface RefusedRequest {
  readonly client: string
  readonly why: string
  readonly file?: string
}

/** One line for each transfer and each refusal, so many a minute: whoever can send a packet can cause one. All are counted. */
export interface TransferLog {
  began(): void
  ended(now: number, active: Active, outcome: Outcome, bytes: number): void
  refused(now: number, cause: TftpRefusal, request: RefusedRequest): void
  /** Something that should not happen, and ends nothing. */
  failed(error: unknown): void
}

/** A storm of 2,000 machines a minute is logged whole. */
const transfersPerMinute = 6000
const refusalsPerMinute = 60

/** Opens the log. */
export function openTransferLog(log: Logger, meter?: TftpMeter): TransferLog {
  const transfers = openLineLimit(transfersPerMinute)
  const refusals = openLineLimit(refusalsPerMinute)
  return {
    began: () => meter?.began(),
    ended: (now, active, outcome, bytes) => {
      meter?.ended(outcome, bytes)
      // Who never answered may never have asked.
      const line = (outcome === 'unanswered' || !active.transfer.answered ? refusals : transfers).admit(now)
      if (line === undefined) return
      const { file, peer, blockSize, windowSize, transfer, openedAt } = active
      const seconds = Math.round(now - openedAt) / 1000
      const facts = { file: file.name, client: canonicalAddress(peer.address), bytes, seconds, outcome }
      const how = { blockSize, windowSize, resent: transfer.resent }
      log.info({ ...facts, ...how, ...missedOf(line) }, 'TFTP transfer')
    },
    refused: (now, cause, request) => {
      meter?.refused(cause)
      const line = refusals.admit(now)
      if (line !== undefined) log.warn({ ...request, ...missedOf(line) }, 'TFTP request refused')
    },
    failed: (error) => log.error({ err: error }, 'TFTP failed'),
  }
}

function missedOf({ missed }: { readonly missed: number }): { missed?: number } {
  return missed === 0 ? {} : { missed }
}
