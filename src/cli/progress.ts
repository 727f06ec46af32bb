import { formatSize } from './format.ts'
import type { Io } from './io.ts'
import { printable } from './text.ts'

/** How far a long step is. */
export interface Progress {
  add(bytes: number): void
  /** Ends the step; what it says stays. */
  done(text: string): void
  /** Takes the bar away before an error is told. */
  clear(): void
}

const barWidth = 20
const redrawMilliseconds = 100

/** Shows a step on stderr: a bar that moves on a terminal, and elsewhere only a line when it is done. */
export function showProgress(io: Io, label: string, totalBytes: number): Progress {
  const write = (text: string): void => {
    io.stderr.write(text)
  }
  if (!io.isTTY.stderr) {
    return { add: () => {}, done: (text) => write(`${printable(`${label}: ${text}`)}\n`), clear: () => {} }
  }
  const width = io.columns ?? 80
  const show = (text: string): void => write(`\r\u001b[K${printable(text).slice(0, width - 1)}`)
  let bytes = 0
  let drawnAt = Number.NEGATIVE_INFINITY
  return {
    add(more) {
      bytes += more
      const now = io.now().getTime()
      if (now - drawnAt < redrawMilliseconds) return
      drawnAt = now
      show(
        `${label.padEnd(20)} ${barOf(bytes / totalBytes)} ${formatSize(bytes)} of ${formatSize(totalBytes)}`,
      )
    },
    done(text) {
      show(`${label}: ${text}`)
      write('\n')
    },
    clear: () => write('\r\u001b[K'),
  }
}

function barOf(part: number): string {
  const full = Math.round(Math.min(1, Math.max(0, part)) * barWidth)
  return `[${'#'.repeat(full)}${'.'.repeat(barWidth - full)}]`
}
