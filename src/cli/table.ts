import { type Piece, printable, render, toned, widthOf } from './text.ts'

/** A column: its heading, and on which side its cells stand. */
export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
  /** Below this width the column is not narrowed while others can be. */
  readonly min?: number
}

/** A name with its value, or with one value a line. */
export interface Field {
  readonly name: string
  readonly value: Piece | readonly Piece[]
}

/** Where it is shown: a terminal's width, or none, and whether in colour. */
export interface Screen {
  readonly width: number | undefined
  readonly colour: boolean
}

const gap = 2
const smallest = 4

/** A table's lines. On a terminal the widest columns give way until it fits, and what is cut ends in "…"; a pipe gets all. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly Piece[])[],
  screen: Screen,
): string[] {
  const heading = columns.map((column) => toned('dim', column.title))
  const lines = [heading, ...rows]
  const widths = fit(
    columns,
    columns.map((_, index) => Math.max(...lines.map((line) => widthOf(line[index] ?? '')))),
    screen.width,
  )
  return lines.map((line) =>
    columns
      .map((column, index) => cell(line[index] ?? '', column, widths[index] ?? 0, screen.colour))
      .join(' '.repeat(gap))
      .trimEnd(),
  )
}

/**
 * Fields one below the other, their values aligned. A value that does not fit a terminal is cut; with `wrap`, for sentences,
 * it goes on below itself.
 */
export function formatFields(
  fields: readonly Field[],
  screen: Screen,
  options: { readonly wrap?: boolean } = {},
): string[] {
  const indent = Math.max(0, ...fields.map((field) => field.name.length)) + gap
  const room = screen.width === undefined ? undefined : Math.max(smallest, screen.width - indent)
  return fields.flatMap(({ name, value }) => {
    const given = Array.isArray(value) ? (value as readonly Piece[]) : [value as Piece] // Array.isArray forgets readonly
    const values =
      options.wrap === true && room !== undefined ? given.flatMap((piece) => wrapped(piece, room)) : given
    return values.map((piece, index) =>
      (
        render(toned('dim', index === 0 ? name : ''), { colour: screen.colour, pad: indent }) +
        render(piece, { colour: screen.colour, ...(room === undefined ? {} : { cut: room }) })
      ).trimEnd(),
    )
  })
}

function cell(piece: Piece, column: Column, width: number, colour: boolean): string {
  const shown = Math.min(widthOf(piece), width)
  const before = column.align === 'right' ? ' '.repeat(width - shown) : ''
  return before + render(piece, { colour, cut: width, pad: width - before.length })
}

/** Takes from the widest column, one by one, first above the columns' own minimum, then above the smallest. */
function fit(columns: readonly Column[], natural: readonly number[], width: number | undefined): number[] {
  const widths = [...natural]
  if (width === undefined) return widths
  const minima = columns.map((column, index) => Math.min(natural[index] ?? 0, column.min ?? smallest))
  const last = natural.map((own) => Math.min(own, smallest))
  for (const floors of [minima, last]) {
    for (let excess = sum(widths) + gap * (widths.length - 1) - width; excess > 0; excess -= 1) {
      const widest = widths
        .map((own, index) => ({ index, own, spare: own - (floors[index] ?? 0) }))
        .filter(({ spare }) => spare > 0)
        .sort((a, b) => b.own - a.own)[0]
      if (widest === undefined) break
      widths[widest.index] = widest.own - 1
    }
  }
  return widths
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

/** A sentence in lines of at most `width`; a word that is longer is cut by who prints it. */
function wrapped(piece: Piece, width: number): Piece[] {
  const { text, tone } = typeof piece === 'string' ? toned('plain', piece) : piece
  const lines: string[] = []
  for (const word of printable(text).split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines.map((line) => toned(tone, line))
}
