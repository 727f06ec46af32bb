import type { Io } from './io.ts'
import { hasColour } from './output.ts'
import { type Column, formatTable } from './table.ts'
import { type Piece, render } from './text.ts'

/** A part of the terminal that is drawn again in its place. What was above it stays. */
export interface LiveScreen {
  /** Lines that fit the terminal as it is now. */
  table(columns: readonly Column[], rows: readonly (readonly Piece[])[]): string[]
  /** How many lines there are room for. */
  rows(): number
  /** Puts these lines in the place of those before; what does not fit is cut. */
  draw(lines: readonly string[]): void
  /** Leaves the last lines where they are, and shows the cursor again. */
  close(): void
}

const hideCursor = '\u001b[?25l'
const showCursor = '\u001b[?25h'
const clearLine = '\u001b[2K'
const clearBelow = '\u001b[0J'

/** Opens one at the cursor. */
export function openScreen(io: Io): LiveScreen {
  const colour = hasColour(io, true)
  const size = (): { columns: number; rows: number } => io.size?.() ?? { columns: io.columns ?? 80, rows: 24 }
  let drawn = 0
  return {
    table: (columns, rows) => formatTable(columns, rows, { width: size().columns, colour }),
    rows: () => size().rows,
    draw(lines) {
      const { columns, rows } = size()
      // A terminal that became smaller has scrolled: only what it shows can be drawn over.
      const up = Math.min(drawn, rows - 1)
      const shown = lines.slice(0, Math.max(1, rows - 1))
      const text = shown.map(
        (line) =>
          `${clearLine}${line.includes('\u001b') ? line : render(line, { colour: false, cut: columns })}\n`,
      )
      io.stdout.write(
        `${drawn === 0 ? hideCursor : ''}${up > 0 ? `\u001b[${up}A\r` : ''}${text.join('')}${clearBelow}`,
      )
      drawn = shown.length
    },
    close: () => void (drawn > 0 && io.stdout.write(showCursor)),
  }
}
