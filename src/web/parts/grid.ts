import { type Children, html, useEffect, useLayoutEffect, useRef, useState, type VNode } from '../html.ts'

/** A column of a grid. */
export interface Column<Row> {
  readonly key: string
  readonly title: string
  readonly cell: (row: Row) => Children
  /** What the column is sorted by; left out, it cannot be. */
  readonly sortBy?: (row: Row) => string | number
  readonly className?: string
}

/** A grid of any number of rows: only those in sight are in the page. */
export interface GridProps<Row> {
  readonly label: string
  readonly rows: readonly Row[]
  readonly columns: readonly Column<Row>[]
  readonly keyOf: (row: Row) => string
  readonly onOpen?: (row: Row) => void
  readonly selected?: ReadonlySet<string>
  readonly onSelect?: (selected: ReadonlySet<string>) => void
  readonly sort: Sort
  readonly onSort: (sort: Sort) => void
  readonly empty: string
}

/** By which column, and which way. */
export interface Sort {
  readonly key: string
  readonly descending: boolean
}

const rowHeight = 34
/** Rows above and below those in sight, so that scrolling shows no gaps. */
const spare = 12

/** Sorts rows by a column; the order of before decides between equals. */
export function sorted<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  { key, descending }: Sort,
): Row[] {
  const by = columns.find((column) => column.key === key)?.sortBy
  if (by === undefined) return [...rows]
  const keyed = rows.map((row) => ({ row, value: by(row) }))
  const way = descending ? -1 : 1
  keyed.sort((a, b) => (a.value < b.value ? -way : a.value > b.value ? way : 0))
  return keyed.map(({ row }) => row)
}

/** The grid. Arrow keys move, Enter opens, Space selects. */
export function Grid<Row>(props: GridProps<Row>): VNode {
  const { label, rows, columns, keyOf, onOpen, selected, onSelect, sort, onSort, empty } = props
  const scroller = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  const [height, setHeight] = useState(600)
  const [active, setActive] = useState(0)
  useLayoutEffect(() => {
    const box = scroller.current
    if (box === null) return undefined
    const measure = new ResizeObserver(() => setHeight(box.clientHeight))
    measure.observe(box)
    return () => measure.disconnect()
  }, [])
  useEffect(() => {
    if (active >= rows.length) setActive(Math.max(0, rows.length - 1))
  }, [rows.length])
  const first = Math.max(0, Math.min(Math.floor(top / rowHeight), rows.length - 1) - spare)
  const last = Math.min(rows.length, Math.ceil((top + height) / rowHeight) + spare)
  const seen = rows.slice(first, last)

  const toggle = (row: Row): void => {
    if (selected === undefined || onSelect === undefined) return
    const next = new Set(selected)
    if (!next.delete(keyOf(row))) next.add(keyOf(row))
    onSelect(next)
  }
  const move = (to: number): void => {
    const index = Math.max(0, Math.min(to, rows.length - 1))
    setActive(index)
    const box = scroller.current
    if (box === null) return
    const head = rowHeight
    if (index * rowHeight < box.scrollTop) box.scrollTop = index * rowHeight
    else if ((index + 1) * rowHeight + head > box.scrollTop + box.clientHeight)
      box.scrollTop = (index + 1) * rowHeight + head - box.clientHeight
  }
  const onKey = (event: KeyboardEvent): void => {
    const page = Math.max(1, Math.floor(height / rowHeight) - 2)
    const row = rows[active]
    const steps: Readonly<Record<string, () => void>> = {
      ArrowDown: () => move(active + 1),
      ArrowUp: () => move(active - 1),
      PageDown: () => move(active + page),
      PageUp: () => move(active - page),
      Home: () => move(0),
      End: () => move(rows.length - 1),
      Enter: () => row !== undefined && onOpen?.(row),
      ' ': () => row !== undefined && toggle(row),
    }
    const step = steps[event.key]
    if (step === undefined || event.target !== event.currentTarget) return
    event.preventDefault()
    step()
  }
  const all = selected !== undefined && rows.length > 0 && rows.every((row) => selected.has(keyOf(row)))
  const selectAll = (): void => onSelect?.(all ? new Set() : new Set(rows.map(keyOf)))

  return html`<div class="grid" ref=${scroller} tabindex="0" role="region" aria-label=${label} onKeyDown=${onKey}
      onScroll=${(event: Event) => setTop((event.currentTarget as HTMLElement).scrollTop)}>
    <table aria-rowcount=${rows.length + 1}>
      <thead><tr>
        ${selected && html`<th class="pick"><input type="checkbox" aria-label="all of them" checked=${all} onChange=${selectAll} /></th>`}
        ${columns.map((column) => html`<${Head} key=${column.key} column=${column} sort=${sort} onSort=${onSort} />`)}
      </tr></thead>
      <tbody>
        <${Space} rows=${first} columns=${columns.length} />
        ${seen.map((row, index) => {
          const key = keyOf(row)
          const at = first + index
          return html`<tr key=${key} aria-rowindex=${at + 2} class=${at === active ? 'active' : ''}
              onClick=${() => setActive(at)} onDblClick=${() => onOpen?.(row)}>
            ${selected && html`<td class="pick"><input type="checkbox" aria-label=${key} checked=${selected.has(key)} onChange=${() => toggle(row)} /></td>`}
            ${columns.map((column) => html`<td key=${column.key} class=${column.className ?? ''}>${column.cell(row)}</td>`)}
          </tr>`
        })}
        <${Space} rows=${rows.length - last} columns=${columns.length} />
      </tbody>
    </table>
    ${rows.length === 0 && html`<p class="empty">${empty}</p>`}
  </div>`
}

function Head<Row>({
  column,
  sort,
  onSort,
}: {
  column: Column<Row>
  sort: Sort
  onSort: (sort: Sort) => void
}): VNode {
  const { key, title, sortBy } = column
  if (sortBy === undefined) return html`<th>${title}</th>`
  const isBy = sort.key === key
  const way = !isBy ? 'none' : sort.descending ? 'descending' : 'ascending'
  return html`<th aria-sort=${way}>
    <button type="button" class="sort" onClick=${() => onSort({ key, descending: isBy && !sort.descending })}>
      ${title}<span aria-hidden="true">${isBy ? (sort.descending ? ' ▾' : ' ▴') : ''}</span>
    </button>
  </th>`
}

/** What the rows out of sight would take. */
function Space({ rows, columns }: { rows: number; columns: number }): VNode | null {
  if (rows <= 0) return null
  return html`<tr aria-hidden="true" class="space"><td colspan=${columns + 1} style=${{ height: `${rows * rowHeight}px` }}></td></tr>`
}
