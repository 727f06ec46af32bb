import type { Readable } from 'node:stream'

/** What a storm needs of the operator API; the command line's own client is one. Every call throws PawlError. */
export interface OperatorApi {
  get<Answer>(path: string, query?: Readonly<Record<string, string | number | undefined>>): Promise<Answer>
  post<Answer>(path: string, body?: unknown): Promise<Answer>
  create<Answer>(path: string, body?: unknown): Promise<Answer>
  delete<Answer = void>(path: string): Promise<Answer>
  sent(path: string): Promise<{ readonly whole: boolean; readonly bytes: number }>
  upload(
    path: string,
    body: Readable,
    part: { readonly offset: number; readonly size: number },
  ): Promise<void>
}

/** A node, as far as a storm looks at one. */
export interface ListedNode {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly state: string
  readonly session: { readonly id: string; readonly state: string } | null
  readonly updatedAt: string
}

/** An image version, as far as a storm looks at one. */
export interface ListedImage {
  readonly ref: string
  readonly createdAt: string
  readonly manifest: { readonly annotations?: Readonly<Record<string, string>> }
}

/** Every page of a list. */
export async function listAll<Item, Cursor extends string | number>(
  api: Pick<OperatorApi, 'get'>,
  path: string,
  query: Readonly<Record<string, string | number | undefined>> = {},
): Promise<Item[]> {
  const items: Item[] = []
  for (let after: Cursor | undefined; ; ) {
    const page = await api.get<{ items: Item[]; next: Cursor | null }>(path, { ...query, limit: 1000, after })
    items.push(...page.items)
    if (page.next === null) return items
    after = page.next
  }
}

/** Runs `work` for each item, some at once; the first error ends it. */
export async function inParallel<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values()
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
}
