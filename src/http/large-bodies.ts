import { openFairQueue } from './fair-queue.ts'

/**
 * Room for bodies, while they come and while they wait. What machines usually send is small and has room by itself; what is larger
 * shares a bound. Where that is reached, the site that has most of them gives way, and of it who came last: a site that sends
 * large or slow bodies takes no room from others.
 */
export interface LargeBodies {
  /** Counts a body. Undefined: there is no room. `sendAway` is called where it must give way, until it is worked on. */
  take(site: string, bytes: number, sendAway: () => void): LargeBody | undefined
}

/** A body that takes room. */
export interface LargeBody {
  /** It is worked on: it gives way to nobody any more. */
  begun(): void
  /** Its room is free. */
  over(): void
}

/** Stage 1 and most reports are smaller than the first; `total` is that of the others together, bytes. */
export const bodyLimits = { small: 4096, total: 64 * 2 ** 20 }

/** Has room for as many as the limits say. */
export function openLargeBodies({ total }: Pick<typeof bodyLimits, 'total'> = bodyLimits): LargeBodies {
  const waiting = openFairQueue<LargeBody & { readonly sendAway: () => void }>()
  let held = 0

  function makeRoom(site: string): boolean {
    const largest = waiting.largest()
    if (largest === undefined || largest.length <= waiting.lengthOf(site) + 1) return false
    const { over, sendAway } = largest.newest.item
    over()
    sendAway()
    return true
  }

  return {
    take(site, bytes, sendAway) {
      while (held + bytes > total) if (!makeRoom(site)) return undefined
      held += bytes
      let isOver = false
      const begun = (): void => waiting.leave(place)
      const over = (): void => {
        if (isOver) return
        isOver = true
        held -= bytes
        begun()
      }
      const place = waiting.push(site, { begun, over, sendAway })
      return { begun, over }
    },
  }
}
