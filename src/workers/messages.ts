import type { BootEntry } from '../boot/entry.ts'
import type { RefusalLog } from '../boot/refusal-log.ts'
import type { HandshakeFault, StorySteps } from '../boot/story.ts'
import type { PackedError } from './packed-error.ts'

/** Which of the two boot listeners. */
export type SideName = 'main' | 'old'

/** A boot listener as a worker is told of it: all of it is plain data, and may change while it runs. */
export interface SideSetup {
  readonly entry: BootEntry
  /** What `https.createServer` takes, keys and the ticket key included. */
  readonly tls: Readonly<Record<string, unknown>>
}

/** Both as they are now. `old` is gone when its root was cut over. */
export type Sides = { readonly [Name in SideName]?: SideSetup }

/** The steps that have an answer. */
export type AskedStep = Exclude<keyof StorySteps, 'handshakeFailed'>

/** A step that a worker cannot take itself. */
export interface Ask {
  readonly kind: 'ask'
  readonly id: number
  readonly side: SideName
  readonly step: AskedStep
  readonly args: readonly unknown[]
}

/** What a worker says. */
export type FromWorker =
  | Ask
  | { readonly kind: 'handshake-failed'; readonly fault: HandshakeFault }
  | { readonly kind: 'refusal'; readonly facts: Parameters<RefusalLog['record']>[0] }
  /** It listens. */
  | { readonly kind: 'ready' }
  /** It cannot begin. */
  | { readonly kind: 'failed'; readonly error: PackedError }
  | { readonly kind: 'pong' }
  | { readonly kind: 'measured'; readonly id: number; readonly counts: unknown }

/** What the keeper says; `Setup` is what a worker begins with. */
export type FromKeeper<Setup> =
  | { readonly kind: 'begin'; readonly setup: Setup }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly error: PackedError }
  | { readonly kind: 'cut'; readonly session: string }
  | { readonly kind: 'sides'; readonly sides: Sides }
  | { readonly kind: 'drain'; readonly graceSeconds: number }
  | { readonly kind: 'ping' }
  /** Asks what the worker has counted. */
  | { readonly kind: 'measure'; readonly id: number }
