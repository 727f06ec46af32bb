import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import type { BootContext } from '../boot/context.ts'
import { parseKinds, parseWebhookUrl } from '../domain/webhook.ts'
import { addressUse } from '../domain/webhook-address.ts'
import { PawlError } from '../errors.ts'
import type { WebhookRow } from '../storage/webhook-tables.ts'
import { parseGlob } from './glob.ts'
import { sealedPlace, type WebhookView } from './webhook-view.ts'

/** What a webhook is made of. `node` and `ca`: null for none. */
export interface WebhookSettings {
  readonly url: string
  readonly kinds: readonly string[]
  readonly node?: string | null
  readonly ca?: string | null
}

const maxCaCharacters = 32 * 1024
const pemBlock = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g

/** What an event tells of a webhook. */
export function settingsOf({ url, kinds, node, ca }: WebhookView): Record<string, unknown> {
  return {
    url,
    kinds,
    node,
    ca: ca === null ? null : certificatesOf(ca).map(({ fingerprint256 }) => fingerprint256),
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

/** Refuses what could never be sent. A name is judged by its addresses, at every try: it may lead elsewhere by then. */
function openUrl(text: string, { webhookAllowedNetworks: allowed }: BootContext['settings']): string {
  const url = parseWebhookUrl(text)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const use = isIP(host) === 0 ? undefined : addressUse(host, allowed)
  const hint = 'list its network in webhookAllowedNetworks'
  if (use === 'closed')
    throw new PawlError('invalid', `${host} is not an address of the public Internet`, { hint })
  if (url.protocol === 'http:' && (use === 'public' || allowed.length === 0))
    throw new PawlError('invalid', 'http:// is for networks that are listed', {
      hint: `use https://, or ${hint}`,
    })
  return url.href
}

/** Reads a pattern of node names; throws `invalid`. */
export function parseNode(pattern: string | null): string | null {
  if (pattern !== null) parseGlob(pattern)
  return pattern
}

/** Reads one to eight certificates; throws `invalid`. */
export function parseCa(pem: string | null): string | null {
  if (pem === null) return null
  const certificates = pem.length > maxCaCharacters ? [] : certificatesOf(pem)
  if (certificates.length < 1 || certificates.length > 8)
    throw new PawlError('invalid', 'the CA of a webhook is one to eight certificates (PEM)')
  return certificates.map((certificate) => certificate.toString()).join('')
}

function certificatesOf(pem: string): X509Certificate[] {
  try {
    return (pem.match(pemBlock) ?? []).map((block) => new X509Certificate(block))
  } catch {
    return []
  }
}
