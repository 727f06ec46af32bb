import { createPrivateKey, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import type { BootContext } from '../boot/context.ts'
import { extensionLimits, mediaTypePattern, usualAnswerTypes } from '../domain/extension.ts'
import { quote } from '../domain/node.ts'
import { maskUrl, parseWebhookUrl } from '../domain/webhook.ts'
import { addressUse } from '../domain/webhook-address.ts'
import { PawlError } from '../errors.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import { extensionPlace, extensionTarget } from './extension-view.ts'

/** What an extension is made of. What is left out has its default; `clientKey: '***'` keeps the key there is. */
export interface ExtensionSettings {
  readonly url: string
  readonly timeoutSeconds?: number
  readonly maxAnswerBytes?: number
  readonly answerTypes?: readonly string[]
  readonly ca?: string | null
  readonly clientCertificate?: string | null
  readonly clientKey?: string | null
}

type Columns = Omit<ExtensionRow, 'operation' | 'revision' | 'created_at' | 'created_by' | 'updated_at'>

const maxPemCharacters = 32 * 1024
const pemBlock = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g

/** The columns of what was given; throws `invalid`. `known` is what there is under this operation. */
export function extensionColumns(
  context: BootContext,
  operation: string,
  asked: ExtensionSettings,
  known: ExtensionRow | undefined,
): Columns {
  const { timeoutSeconds, maxAnswerBytes } = extensionLimits
  return {
    url: context.sealer.seal(urlOf(context, asked.url, known), extensionPlace(operation, 'url')),
    timeout_seconds: within('timeoutSeconds', asked.timeoutSeconds, timeoutSeconds),
    max_answer_bytes: within('maxAnswerBytes', asked.maxAnswerBytes, maxAnswerBytes),
    answer_types: JSON.stringify(typesOf(asked.answerTypes ?? usualAnswerTypes)),
    ca: certificatesOf(asked.ca ?? null, 'ca'),
    ...clientOf(context, operation, asked, known),
  }
}

/** A URL as it is shown, with `***` in it, is the one there is. */
function urlOf(context: BootContext, text: string, known: ExtensionRow | undefined): string {
  if (known !== undefined && text.includes('***')) {
    const { url } = extensionTarget(context, { ...known, client_key: null })
    if (maskUrl(url) === text) return url.href
  }
  const url = parseWebhookUrl(text, 'extension')
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const allowed = context.settings.extensionAllowedNetworks
  const use = isIP(host) === 0 ? undefined : addressUse(host, allowed)
  const hint = 'list its network in extensionAllowedNetworks'
  if (use === 'closed')
    throw new PawlError('invalid', `${host} is not an address of the public Internet`, { hint })
  if (url.protocol === 'http:' && (use === 'public' || allowed.length === 0))
    throw new PawlError('invalid', 'http:// is for networks that are listed', {
      hint: `use https://, or ${hint}`,
    })
  return url.href
}

function within(
  name: string,
  value: number | undefined,
  { least, most, usual }: { readonly least: number; readonly most: number; readonly usual: number },
): number {
  const number = value ?? usual
  if (Number.isInteger(number) && number >= least && number <= most) return number
  throw new PawlError('invalid', `${name} is not a whole number from ${least} to ${most}`)
}

function typesOf(types: readonly string[]): string[] {
  const other = types.find((type) => !new RegExp(mediaTypePattern).test(type))
  if (other !== undefined)
    throw new PawlError('invalid', `${quote(other)} is not a media type, as application/json is one`)
  if (types.length < 1 || types.length > 16)
    throw new PawlError('invalid', 'an extension has 1 to 16 answerTypes')
  return [...new Set(types)].sort()
}

/** Reads one to eight certificates; throws `invalid`. */
function certificatesOf(pem: string | null, what: string): string | null {
  if (pem === null) return null
  const blocks = pem.length > maxPemCharacters ? [] : (pem.match(pemBlock) ?? [])
  try {
    if (blocks.length >= 1 && blocks.length <= 8)
      return blocks.map((block) => new X509Certificate(block).toString()).join('')
  } catch {}
  throw new PawlError('invalid', `${what} is not one to eight certificates (PEM)`)
}

/** A client certificate and its key: both, or neither. The key is kept sealed, and never shown again. */
function clientOf(
  { sealer }: BootContext,
  operation: string,
  asked: ExtensionSettings,
  known: ExtensionRow | undefined,
): Pick<ExtensionRow, 'client_certificate' | 'client_key'> {
  const certificate = certificatesOf(asked.clientCertificate ?? null, 'clientCertificate')
  const place = extensionPlace(operation, 'client-key')
  const kept = asked.clientKey === '***' ? (known?.client_key ?? null) : null
  const key = kept === null ? (asked.clientKey ?? null) : sealer.open(kept, place)
  if (certificate === null && key === null) return { client_certificate: null, client_key: null }
  if (certificate === null || key === null || key === '***')
    throw new PawlError('invalid', 'clientCertificate and clientKey go together: one of them is missing')
  if (!fits(certificate, key))
    throw new PawlError('invalid', 'clientKey is not the key of clientCertificate, a private key in PEM')
  return { client_certificate: certificate, client_key: sealer.seal(key, place) }
}

function fits(certificate: string, key: string): boolean {
  try {
    return (
      key.length <= maxPemCharacters &&
      new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))
    )
  } catch {
    return false
  }
}
