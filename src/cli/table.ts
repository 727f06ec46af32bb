import { type Piece, printable, render, toned, widthOf } from './text.ts'

/** A column: its heading, and on which side its cells stand. */
export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
  /** Below this width the column is not narrowed while others can be narrowed or left out; 8 unless told. */
  readonly min?: number
  /** In which order columns are left out where there is no room for all: 1 goes first. Where no column says, the last goes first. */
  readonly drop?: number
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
const usualMin = 8

/**
 * A table's lines; a pipe gets all. On a terminal the widest columns give way until it fits, and what is cut ends in "…"; then
 * whole columns go. The first column is what one types next: it stays whole as long as anything else can go.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly Piece[])[],
  screen: Screen,
): string[] {
  const lines = [columns.map((column) => toned('dim', column.title)), ...rows]
  const natural = columns.map((_, index) => Math.max(...lines.map((line) => widthOf(line[index] ?? ''))))
  const shown = fit(columns, natural, screen.width)
  return lines.map((line) =>
    shown
      .map(({ index, width }) => cell(line[index] ?? '', columns[index], width, screen.colour))
      .join(' '.repeat(gap))
      .trimEnd(),
  )
}

/** Fields one below the other, their values aligned. A value that does not fit a terminal goes on below itself. */
export function formatFields(fields: readonly Field[], screen: Screen): string[] {
  const indent = Math.max(0, ...fields.map((field) => field.name.length)) + gap
  const room = screen.width === undefined ? undefined : Math.max(smallest, screen.width - indent)
  return fields.flatMap(({ name, value }) => {
    const given = Array.isArray(value) ? (value as readonly Piece[]) : [value as Piece] // Array.isArray forgets readonly
    const values = room === undefined ? given : given.flatMap((piece) => wrapped(piece, room))
    return values.map((piece, index) =>
      (
        render(toned('dim', index === 0 ? name : ''), { colour: screen.colour, pad: indent }) +
        render(piece, { colour: screen.colour })
      ).trimEnd(),
    )
  })
}

function cell(piece: Piece, column: Column | undefined, width: number, colour: boolean): string {
  const shown = Math.min(widthOf(piece), width)
  const before = column?.align === 'right' ? ' '.repeat(width - shown) : ''
  return before + render(piece, { colour, cut: width, pad: width - before.length })
}

/** A column that is shown, by its place among all, and how wide. */
interface Shown {
  readonly index: number
  width: number
  /** Narrower than this only where nothing else is left to give way. */
  readonly floor: number
}

function fit(columns: readonly Column[], natural: readonly number[], width: number | undefined): Shown[] {
  let shown: Shown[] = natural.map((own, index) => ({
    index,
    width: own,
    floor: index === 0 ? own : Math.min(own, floorOf(columns[index])),
  }))
  if (width === undefined) return shown
  for (const index of dropOrder(columns)) {
    if (spaceOf(shown.map(({ floor }) => floor)) <= width) break
    shown = shown.filter((one) => one.index !== index)
  }
  for (const least of [({ floor }: Shown) => floor, ({ width: own }: Shown) => Math.min(own, smallest)]) {
    for (let excess = spaceOf(shown.map((one) => one.width)) - width; excess > 0; excess -= 1) {
      const [widest] = shown.filter((one) => one.width > least(one)).sort((a, b) => b.width - a.width)
      if (widest === undefined) break
      widest.width -= 1
    }
  }
  return shown
}

/** A heading is never cut: a narrow column with a cut heading says nothing. */
function floorOf(column: Column | undefined): number {
  return Math.max(column?.min ?? usualMin, column?.title.length ?? 0)
}

/** Never the first, and where columns say their order, no other than those. */
function dropOrder(columns: readonly Column[]): number[] {
  const ordered = columns
    .map(({ drop }, index) => ({ drop, index }))
    .filter(({ drop }) => drop !== undefined)
    .sort((a, b) => (a.drop ?? 0) - (b.drop ?? 0))
    .map(({ index }) => index)
  if (ordered.length > 0) return ordered
  return columns
    .map((_, index) => index)
    .slice(1)
    .reverse()
}

function spaceOf(widths: readonly number[]): number {
  return sum(widths) + gap * (widths.length - 1)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

/** A text in lines of at most `width`, parted between words; a word that is longer goes on in the next line. */
function wrapped(piece: Piece, width: number): Piece[] {
  const { text, tone } = typeof piece === 'string' ? toned('plain', piece) : piece
  if (widthOf(piece) <= width) return [piece]
  const lines: string[] = []
  for (const word of printable(text).split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`
      continue
    }
    for (let at = 0; at === 0 || at < word.length; at += width) lines.push(word.slice(at, at + width))
  }
  return lines.map((line) => toned(tone, line))
}
