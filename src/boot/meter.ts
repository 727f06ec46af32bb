import type { EventFacts, EventKind } from '../domain/event.ts'
import type { TokenKind } from '../domain/token.ts'
import type { ExtensionFault } from './extension.ts'

/**
 * What the boot story tells whoever counts it (`metrics/`): plain facts at its borders, after they are durable. Nothing here
 * waits, throws, or changes what happens.
 */
export interface BootMeter {
  /** An event was committed. */
  committed(event: Pick<EventFacts, 'kind' | 'node' | 'session' | 'at' | 'detail'>): void
  /** Something was not served; `cause` is one of the kind's own list. */
  refused(kind: EventKind, cause: string): void
  /** A token was minted and committed. */
  issued(kind: TokenKind): void
  /** An extension was asked; `outcome` is `answered`, or why there was no answer. */
  extension(operation: string, outcome: 'answered' | ExtensionFault): void
  /** Bytes of an image went to a node: from us, or asked for at an object storage that we sent it to. */
  sent(way: 'session' | 'redirected', bytes: number): void
  /** A node was given an identity document, its first or another. */
  identified(): void
}
