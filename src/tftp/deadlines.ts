import type { Active } from './table.ts'

/** Calls for transfers whose time has come. */
export interface Deadlines {
  /** Looks at this one again when its deadline is over, and not before. */
  set(active: Active): void
  clear(active: Active): void
  close(): void
}

const tickMilliseconds = 10

/**
 * A wheel of ticks. An ACK only moves the transfer's own deadline; the wheel notices when the tick comes that it stood in, so
 * that a packet costs no timer. The timer runs while there are transfers.
 */
export function openDeadlines(now: () => number, onDue: (active: Active, at: number) => void): Deadlines {
  const ticks = new Map<number, Set<Active>>()
  let timer: NodeJS.Timeout | undefined
  let open = 0

  function put(active: Active): void {
    const tick = Math.ceil(active.transfer.deadline / tickMilliseconds)
    if (active.tick >= 0 && active.tick <= tick) return
    if (active.tick >= 0) clear(active)
    active.tick = tick
    const others = ticks.get(tick)
    if (others === undefined) ticks.set(tick, new Set([active]))
    else others.add(active)
    open += 1
    timer ??= setInterval(turn, tickMilliseconds)
  }

  function clear(active: Active): void {
    const others = ticks.get(active.tick)
    if (others?.delete(active) !== true) return
    if (others.size === 0) ticks.delete(active.tick)
    active.tick = -1
    open -= 1
  }

  function turn(): void {
    const at = now()
    const present = Math.floor(at / tickMilliseconds)
    for (const [tick, due] of [...ticks]) {
      if (tick > present) continue
      for (const active of [...due]) {
        clear(active)
        onDue(active, at)
      }
    }
    if (open === 0) close()
  }

  function close(): void {
    clearInterval(timer)
    timer = undefined
  }

  return { set: put, clear, close }
}
