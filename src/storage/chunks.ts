/** How many values one statement may carry: SQLite takes 32,766, PostgreSQL 65,535. */
const maxValues = 16_000

/** Rows in pieces that one statement can carry, each row being so many values. */
export function* inChunks<Row>(rows: readonly Row[], valuesEach: number): Generator<readonly Row[]> {
  const size = Math.floor(maxValues / valuesEach)
  for (let from = 0; from < rows.length; from += size) yield rows.slice(from, from + size)
}
