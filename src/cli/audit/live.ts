import {
  type ChainEnds,
  type ChainedEvent,
  type ChainFault,
  type ChainPosition,
  unknownChain,
} from '../../domain/event.ts'
import type { ChainedPage, Page } from '../answers.ts'
import type { Api } from '../api.ts'

/** The hashes of live events, by `chain` and number, each computed here from the event's own fields. */
export type LiveHashes = ReadonlyMap<string, string>

/** The key of a position in `LiveHashes`. */
export function keyOf({ chain, seq }: ChainPosition): string {
  return `${seq} ${chain}`
}

/** What was learnt of the events that the server has. */
export interface LiveRecord {
  readonly events: number
  readonly hashes: LiveHashes
  readonly faults: readonly ChainFault[]
}

/** Every chain's ends. */
export async function chainsOf(api: Api): Promise<Map<string, ChainEnds>> {
  const chains = new Map<string, ChainEnds>()
  for (let after: string | undefined; ; ) {
    const page: Page<ChainEnds, string> = await api.get('/events/chains', { after, limit: 1000 })
    for (const chain of page.items) chains.set(chain.name, chain)
    if (page.next === null) return chains
    after = page.next
  }
}

/** The bounded chain is trimmed by count, at any time, and says so nowhere. */
export function isBounded(chain: string): boolean {
  return chain === unknownChain
}

/** Pages of events, chain by chain. */
export async function* chainedEvents(
  api: Api,
  from: { readonly chain?: string; readonly after?: ChainPosition },
): AsyncGenerator<ChainedEvent> {
  for (let after = from.after; ; ) {
    const page: ChainedPage = await api.get('/events/chained', {
      chain: from.chain,
      afterChain: after?.chain,
      after: after?.seq,
      limit: 1000,
    })
    yield* page.items
    if (page.next === null) return
    after = page.next
  }
}
