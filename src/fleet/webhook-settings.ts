import type { BootContext } from '../boot/context.ts'
import { parseKinds, parseWebhookUrl } from '../domain/webhook.ts'
import type { WebhookRow } from '../storage/webhook-tables.ts'
import { parseGlob } from './glob.ts'
import { checkMayLead, fingerprintsOf } from './outgoing-settings.ts'
import { sealedPlace, type WebhookView } from './webhook-view.ts'

/** What a webhook is made of. `node` and `ca`: null for none. */
export interface WebhookSettings {
  readonly url: string
  readonly kinds: readonly string[]
  readonly node?: string | null
  readonly ca?: string | null
}

/** What an event tells of a webhook. */
export function settingsOf({ url, kinds, node, ca }: WebhookView): Record<string, unknown> {
  return {
    url,
    kinds,
    node,
    ca: fingerprintsOf(ca),
  }
}

type Columns = Pick<WebhookRow, 'url' | 'kinds'>

/** The columns of what was given; throws `invalid`. */
export function columnsOf(context: BootContext, id: string, asked: WebhookSettings): Columns
export function columnsOf(context: BootContext, id: string, asked: Partial<WebhookSettings>): Partial<Columns>
export function columnsOf(
  { sealer, settings }: BootContext,
  id: string,
  asked: Partial<WebhookSettings>,
): Partial<Columns> {
  const { url, kinds } = asked
  return {
    ...(url === undefined ? {} : { url: sealer.seal(openUrl(url, settings), sealedPlace(id, 'url')) }),
    ...(kinds === undefined ? {} : { kinds: JSON.stringify(parseKinds(kinds)) }),
  }
}

function openUrl(text: string, { webhookAllowedNetworks: allowed }: BootContext['settings']): string {
  const url = parseWebhookUrl(text)
  checkMayLead(url, { allowed, setting: 'webhookAllowedNetworks' })
  return url.href
}

/** Reads a pattern of node names; throws `invalid`. */
export function parseNode(pattern: string | null): string | null {
  if (pattern !== null) parseGlob(pattern)
  return pattern
}
