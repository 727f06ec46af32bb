import { styleText } from 'node:util'

/** What a piece of text is, for a terminal that has colours. */
export type Tone = 'plain' | 'good' | 'bad' | 'warn' | 'dim' | 'strong'

/** A piece of text with its tone. Whatever it holds, only printable ASCII is shown. */
export interface Toned {
  readonly text: string
  readonly tone: Tone
}

/** Text that has not been made fit for a terminal yet. */
export type Piece = string | Toned

const formats = {
  plain: undefined,
  good: 'green',
  bad: 'red',
  warn: 'yellow',
  dim: 'dim',
  strong: 'bold',
} as const satisfies Record<Tone, Parameters<typeof styleText>[0] | undefined>

/** Gives a text its tone. */
export function toned(tone: Tone, text: string): Toned {
  return { tone, text }
}

/**
 * Text from servers and nodes for a terminal: white space becomes a space, all else that is not printable ASCII a
 * question mark. A serial number with an escape sequence must not move the cursor, recolour or rename the window, and
 * one with a letter that looks like another must not pass for it. `--json` has it whole, escaped.
 */
export function printable(text: string): string {
  return text.replace(/[\t\n\r]+/g, ' ').replace(/[^ -~]/gu, '?')
}

/** A piece as it is printed: made printable, cut to a width, filled up to another, then coloured. */
export function render(piece: Piece, options: { colour: boolean; cut?: number; pad?: number }): string {
  const { text, tone } = typeof piece === 'string' ? { text: piece, tone: 'plain' as const } : piece
  const shown = cut(printable(text), options.cut ?? Number.POSITIVE_INFINITY)
  const format = formats[tone]
  // The colours are decided here, from what was handed in: styleText would look at the process.
  const painted =
    options.colour && format !== undefined && shown !== ''
      ? styleText(format, shown, { validateStream: false })
      : shown
  return painted + ' '.repeat(Math.max(0, (options.pad ?? 0) - shown.length))
}

/** How wide a piece is when it is printed. */
export function widthOf(piece: Piece): number {
  return printable(typeof piece === 'string' ? piece : piece.text).length
}

/** A document as JSON in ASCII only: every other character is escaped, which loses nothing and moves no cursor. */
export function asciiJson(value: unknown, indent = 2): string {
  return JSON.stringify(value, null, indent).replace(
    /[^\n -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function cut(text: string, width: number): string {
  if (text.length <= width) return text
  return width < 2 ? text.slice(0, width) : `${text.slice(0, width - 1)}…`
}

/** `ann` of `operator:ann`; other actors as they are. */
export function operatorName(actor: string): string {
  return actor.replace(/^operator:/, '')
}
