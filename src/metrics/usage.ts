import { monitorEventLoopDelay } from 'node:perf_hooks'

/** What this process uses. */
export interface Usage {
  readonly cpuSeconds: number
  readonly residentBytes: number
  readonly heapUsedBytes: number
  /** How late the event loop was since the usage before, by percentile, in seconds. */
  readonly delays: Readonly<Record<50 | 99 | 100, number>>
}

/** Reads what this process uses. */
export interface UsageMeter {
  read(): Usage
  close(): void
}

/** Every so often the event loop's lateness is looked at. */
const resolution = 20

/** Opens the meter. */
export function openUsageMeter(): UsageMeter {
  const delay = monitorEventLoopDelay({ resolution })
  delay.enable()
  return {
    read() {
      const { user, system } = process.cpuUsage()
      const { rss, heapUsed } = process.memoryUsage()
      const delays = { 50: late(delay, 50), 99: late(delay, 99), 100: late(delay, 100) }
      delay.reset()
      return { cpuSeconds: (user + system) / 1e6, residentBytes: rss, heapUsedBytes: heapUsed, delays }
    },
    close: () => void delay.disable(),
  }
}

/** The histogram has what passed between two looks, in nanoseconds: all above the resolution is lateness. */
function late(delay: ReturnType<typeof monitorEventLoopDelay>, percentile: number): number {
  if (delay.count === 0) return 0
  return Math.max(0, delay.percentile(percentile) / 1e9 - resolution / 1000)
}
