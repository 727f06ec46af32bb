import { kindWanted } from '../domain/webhook.ts'
import type { Tx } from '../storage/database.ts'
import type { EventRow } from '../storage/tables.ts'
import type { WebhookRow } from '../storage/webhook-tables.ts'
import { parseGlob } from './glob.ts'

type Told = Pick<EventRow, 'kind' | 'node' | 'detail'>

/** Which events a webhook is for. Those about itself it is not sent: each failure would make the next. */
export function wantedOf(webhook: WebhookRow): (event: Told) => boolean {
  const kinds = JSON.parse(webhook.kinds) as string[] // our own column
  const node = webhook.node === null ? undefined : parseGlob(webhook.node)
  return (event) =>
    kindWanted(kinds, event.kind) &&
    (node === undefined || (event.node !== null && node(event.node))) &&
    !(event.kind.startsWith('webhook-') && isAbout(event, webhook.name))
}

function isAbout({ detail }: Told, name: string): boolean {
  return (JSON.parse(detail) as { webhook?: unknown }).webhook === name // our own column
}

/** How many events up to `seq` of a chain each of these webhooks wants and has not taken yet, by its name. */
export async function untaken(
  tx: Tx,
  webhooks: readonly WebhookRow[],
  { chain, seq }: { readonly chain: string; readonly seq: number },
): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  if (webhooks.length === 0) return counts
  const events = await tx
    .selectFrom('events')
    .select(['id', 'kind', 'node', 'detail'])
    .where('chain', '=', chain)
    .where('seq', '<=', seq)
    .where('id', '>', Math.min(...webhooks.map(({ cursor }) => Number(cursor)))) // most often: none
    .execute()
  if (events.length === 0) return counts
  for (const webhook of webhooks) {
    const wanted = wantedOf(webhook)
    const count = events.filter((event) => Number(event.id) > Number(webhook.cursor) && wanted(event)).length
    if (count > 0) counts.set(webhook.name, count)
  }
  return counts
}
