import { type RawBuilder, type SelectQueryBuilder, sql } from 'kysely'
import { PawlError } from '../errors.ts'
import type { Queries } from './database.ts'
import type { ChannelRow, ProposalRow, RolloutRow } from './image-tables.ts'
import type { PublisherRow } from './publisher-tables.ts'
import type { ImageRow, OperatorRow, ProfileRow, Tables } from './tables.ts'

/** Which part of a list: `limit` items behind the one that `after` stands for. */
export interface PageRequest {
  readonly limit: number
  readonly after?: string | undefined
}

/** A part of a list; `next` stands for its last item, null where nothing is behind it. */
export interface RowPage<Row> {
  readonly rows: readonly Row[]
  readonly next: string | null
}

/** Columns that a list is ordered by; together they are unique. Their values hold no comma, so that a cursor can. */
type Order = readonly (readonly [column: string, direction: 'asc' | 'desc'])[]

/**
 * Reads one page. The cursor holds the values that the list is ordered by, not a place in it: what is added or removed
 * meanwhile neither hides nor repeats what was there all the time.
 */
async function readPage<Table extends keyof Tables, Row>(
  query: SelectQueryBuilder<Tables, Table, Row>,
  order: Order,
  { limit, after }: PageRequest,
): Promise<RowPage<Row>> {
  let page = after === undefined ? query : query.where(behind(order, readCursor(order, after)))
  for (const [column, direction] of order) page = page.orderBy(sql.ref(column), direction)
  const found = await page.limit(limit + 1).execute()
  const rows = found.slice(0, limit)
  const last = rows.at(-1) as Readonly<Record<string, unknown>> | undefined
  const next = found.length <= limit ? null : order.map(([column]) => String(last?.[column])).join(',')
  return { rows, next }
}

function readCursor(order: Order, text: string): string[] {
  const values = text.split(',')
  if (values.length === order.length) return values
  throw new PawlError('invalid', 'after is not the "next" of a page of this list')
}

/** (a, b) behind (x, y): a > x, or a = x and b > y; with < where a column is read downwards. */
function behind([first, ...rest]: Order, [value, ...values]: readonly string[]): RawBuilder<boolean> {
  const [column, direction] = first ?? ['', 'asc'] // an order has a column
  const ref = sql.ref(column)
  const past = direction === 'asc' ? sql<boolean>`${ref} > ${value}` : sql<boolean>`${ref} < ${value}`
  return rest.length === 0 ? past : sql<boolean>`(${past} or (${ref} = ${value} and ${behind(rest, values)}))`
}

const byName: Order = [['name', 'asc']]

/** Profiles by name. */
export function pageOfProfiles(db: Queries, page: PageRequest): Promise<RowPage<ProfileRow>> {
  return readPage(db.selectFrom('profiles').selectAll(), byName, page)
}

/** Publishers by name; revoked ones too. */
export function pageOfPublishers(db: Queries, page: PageRequest): Promise<RowPage<PublisherRow>> {
  return readPage(db.selectFrom('publishers').selectAll(), byName, page)
}

/** Channels by name. */
export function pageOfChannels(db: Queries, page: PageRequest): Promise<RowPage<ChannelRow>> {
  const order: Order = [...byName, ['channel', 'asc']]
  return readPage(db.selectFrom('channels').selectAll(), order, page)
}

/** Published image versions, by name, the newest of each first; of one name where one is given. */
export function pageOfImages(
  db: Queries,
  page: PageRequest & { readonly name?: string | undefined },
): Promise<RowPage<ImageRow>> {
  const order: Order = [...byName, ['created_at', 'desc'], ['version', 'asc']]
  let query = db.selectFrom('images').selectAll()
  if (page.name !== undefined) query = query.where('name', '=', page.name)
  return readPage(query, order, page)
}

/** Rollouts, the latest first. */
export function pageOfRollouts(
  db: Queries,
  page: PageRequest & { readonly state?: RolloutRow['state'] | undefined },
): Promise<RowPage<RolloutRow>> {
  let query = db.selectFrom('rollouts').selectAll()
  if (page.state !== undefined) query = query.where('state', '=', page.state)
  return readPage(query, [['started_at', 'desc'], ['id', 'asc']], page) // biome-ignore format: one order
}

/** Proposals, the newest first: those that wait still at a time, or all. */
export function pageOfProposals(
  db: Queries,
  page: PageRequest & { readonly waitingAt?: Date | undefined },
): Promise<RowPage<ProposalRow>> {
  let query = db.selectFrom('proposals').selectAll()
  const at = page.waitingAt?.toISOString()
  if (at !== undefined) query = query.where('state', '=', 'waiting').where('expires_at', '>', at)
  return readPage(query, [['proposed_at', 'desc'], ['id', 'asc']], page) // biome-ignore format: one order
}

/** Operator tokens, the newest first; revoked and expired ones too. */
export function pageOfOperators(db: Queries, page: PageRequest): Promise<RowPage<OperatorRow>> {
  return readPage(db.selectFrom('operators').selectAll(), [['created_at', 'desc'], ['id', 'asc']], page) // biome-ignore format: one order
}
