import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { BootContext } from '../boot/context.ts'
import { extensionLimits, mediaTypePattern, usualAnswerTypes } from '../domain/extension.ts'
import { quote } from '../domain/node.ts'
import { maskUrl, parseWebhookUrl } from '../domain/webhook.ts'
import { PawlError } from '../errors.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import { extensionPlace } from './extension-view.ts'
import { checkMayLead, parseCertificates } from './outgoing-settings.ts'
import { masked } from './profile-secrets.ts'

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

/**
 * The columns of what was given. `known` is what there is under this operation. Throws `invalid`, and `key-unreadable` where `***` is to keep
 * what this server's key does not open.
 */
export function extensionColumns(
  context: BootContext,
  operation: string,
  asked: ExtensionSettings,
  known: ExtensionRow | undefined,
): Columns {
  const { timeoutSeconds, maxAnswerBytes } = extensionLimits
  return {
    url: context.sealer.seal(urlOf(context, operation, asked.url, known), extensionPlace(operation, 'url')),
    timeout_seconds: within('timeoutSeconds', asked.timeoutSeconds, timeoutSeconds),
    max_answer_bytes: within('maxAnswerBytes', asked.maxAnswerBytes, maxAnswerBytes),
    answer_types: JSON.stringify(typesOf(asked.answerTypes ?? usualAnswerTypes)),
    ca: parseCertificates(asked.ca ?? null, 'ca'),
    ...clientOf(context, operation, asked, known),
  }
}

/** A URL as it is shown, with `***` in it, is the one there is. */
function urlOf(
  context: BootContext,
  operation: string,
  text: string,
  known: ExtensionRow | undefined,
): string {
  if (text.includes(masked)) {
    const stored =
      known === undefined ? undefined : context.sealer.open(known.url, extensionPlace(operation, 'url'))
    if (stored !== undefined && maskUrl(new URL(stored)) === text) return stored
    throw new PawlError(
      'invalid',
      `the extension's URL has "${masked}" in it, and is not the stored one as it is shown`,
      {
        hint: 'give the URL itself; what may be a secret in it is sealed and shown to nobody',
      },
    )
  }
  const url = parseWebhookUrl(text, 'extension')
  checkMayLead(url, {
    allowed: context.settings.extensionAllowedNetworks,
    setting: 'extensionAllowedNetworks',
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

/** A client certificate and its key: both, or neither. The key is kept sealed, and never shown again. */
function clientOf(
  { sealer }: BootContext,
  operation: string,
  asked: ExtensionSettings,
  known: ExtensionRow | undefined,
): Pick<ExtensionRow, 'client_certificate' | 'client_key'> {
  const certificate = parseCertificates(asked.clientCertificate ?? null, 'clientCertificate')
  const place = extensionPlace(operation, 'client-key')
  const kept = asked.clientKey === masked ? (known?.client_key ?? null) : null
  const key = kept === null ? (asked.clientKey ?? null) : sealer.open(kept, place)
  if (certificate === null && key === null) return { client_certificate: null, client_key: null }
  if (certificate === null || key === null || key === masked)
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
