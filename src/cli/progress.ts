import { formatSize } from './format.ts'
import type { Io } from './io.ts'
import { printable } from './text.ts'

/** How far a long step is. */
export interface Progress {
  add(bytes: number): void
  /** Says how far the step is altogether: it goes on from there. */
  set(bytes: number): void
  /** A line on the way; the step goes on behind it. */
  note(text: string): void
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
    const line = (text: string): void => write(`${printable(`${label}: ${text}`)}\n`)
    return { add: () => {}, set: () => {}, note: line, done: line, clear: () => {} }
  }
  const width = io.columns ?? 80
  const show = (text: string): void => write(`\r\u001b[K${printable(text).slice(0, width - 1)}`)
  const keep = (text: string): void => {
    show(`${label}: ${text}`)
    write('\n')
  }
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
    set(all) {
      bytes = all
    },
    note: keep,
    done: keep,
    clear: () => write('\r\u001b[K'),
  }
}

function barOf(part: number): string {
  const full = Math.round(Math.min(1, Math.max(0, part)) * barWidth)
  return `[${'#'.repeat(full)}${'.'.repeat(barWidth - full)}]`
}
