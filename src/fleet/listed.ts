import { PawlError } from '../errors.ts'
import type { PageRequest, RowPage } from '../storage/pages.ts'

/** A page of a list; `next` is the `after` of the page behind it, null on the last. */
export interface Listed<View> {
  readonly items: readonly View[]
  readonly next: string | null
}

/** A page of rows as it is shown. */
export async function listed<Row, View>(
  { rows, next }: RowPage<Row>,
  viewOf: (row: Row) => View | Promise<View>,
): Promise<Listed<View>> {
  return { items: await Promise.all(rows.map(viewOf)), next }
}

/** A page of a list that is short and read whole; `keyOf` names each of its items. */
export function pageOf<View>(
  all: readonly View[],
  keyOf: (view: View) => string,
  { limit, after }: PageRequest,
): Listed<View> {
  const from = after === undefined ? 0 : all.findIndex((view) => keyOf(view) === after) + 1
  if (from === 0 && after !== undefined)
    throw new PawlError('invalid', 'after names nothing in this list as it is now', { hint: 'begin anew' })
  const items = all.slice(from, from + limit)
  const last = items.at(-1)
  return { items, next: last === undefined || from + limit >= all.length ? null : keyOf(last) }
}
