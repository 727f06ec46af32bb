/** What parts tell to be counted, so that they need not know of metrics. Every word is of a list here: labels have a bound. */

/** How a TFTP transfer ended. */
export type TftpOutcome = (typeof tftpOutcomes)[number]
export const tftpOutcomes = [
  'done',
  /** The client said that it wants no more: firmware that asked for the size only. */
  'aborted',
  'evicted',
  'stopped',
  'astray',
  'unanswered',
  'silent',
  'unconfirmed',
] as const

/** Why a TFTP request began no transfer. */
export type TftpRefusal = (typeof tftpRefusals)[number]
export const tftpRefusals = [
  'too-many-requests',
  'too-many-transfers',
  'malformed',
  'read-only',
  'not-found',
  'options',
] as const

/** What TFTP tells. */
export interface TftpMeter {
  began(): void
  /** `bytes` are those that were acknowledged. */
  ended(outcome: TftpOutcome, bytes: number): void
  refused(cause: TftpRefusal): void
}

/** What an artifact was asked of a cache, and what the cache had: it, nothing yet, or no room for it. */
export type CacheAnswer = (typeof cacheAnswers)[number]
export const cacheAnswers = ['hit', 'miss', 'passed'] as const

/** Where artifacts are kept that were asked for before. */
export type CacheName = (typeof cacheNames)[number]
export const cacheNames = ['memory', 'disk'] as const

/** Takes what each artifact asked for found. */
export type CacheMeter = (cache: CacheName, answer: CacheAnswer) => void
