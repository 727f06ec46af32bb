import type { BootContext } from '../boot/context.ts'
import { extensionKeys } from '../boot/extension-keys.ts'
import { publishedKeys, signingKey } from '../boot/key-ring.ts'
import { ifReadable } from '../boot/settings-sealer.ts'
import { quote } from '../domain/node.ts'
import { maskUrl } from '../domain/webhook.ts'
import { PawlError } from '../errors.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import { findExtension, listExtensions } from '../storage/extensions.ts'
import { fingerprintsOf } from './outgoing-settings.ts'
import { masked } from './profile-secrets.ts'

/** An extension as operators see it: without its client key, and without what of its URL may be a secret. */
export interface ExtensionView {
  readonly operation: string
  /** Counted up by each change. */
  readonly revision: number
  readonly url: string
  /** The URL or the client key was sealed with another settings key: no service is asked until both are given anew. */
  readonly unreadable: boolean
  readonly timeoutSeconds: number
  readonly maxAnswerBytes: number
  readonly answerTypes: readonly string[]
  /** PEM: the only roots that the service is believed by; null: the system's. */
  readonly ca: string | null
  /** PEM; null: we present none. */
  readonly clientCertificate: string | null
  /** `***` where there is one. */
  readonly clientKey: '***' | null
  readonly createdAt: string
  readonly createdBy: string
  readonly updatedAt: string
}

/** A key that signs what services are asked. */
export interface ExtensionKeyView {
  readonly kid: string
  readonly madeAt: string
  readonly signsFrom: string
  /** Published no longer; null while nothing replaces it. */
  readonly endsAt: string | null
  readonly signing: boolean
  /** The public half, for services that cannot fetch the key set. */
  readonly jwk: Readonly<Record<string, unknown>>
}

/** The keys, and where services find them. */
export interface ExtensionKeysView {
  readonly issuer: string
  readonly jwksUrl: string
  readonly items: readonly ExtensionKeyView[]
}

/** Where a secret of an extension is sealed. */
export function extensionPlace(operation: string, what: 'url' | 'client-key'): string {
  return `extension/${operation}/${what}`
}

/** Who the JWTs say has made them: neither the issuer of identities nor that of anything else. */
export function extensionIssuer({ settings }: Pick<BootContext, 'settings'>): string {
  return `${settings.publicUrl}/v1/extensions`
}

/** What an extension is sent to, with its secrets opened. Throws `key-unreadable`. */
export function extensionTarget(
  { sealer }: Pick<BootContext, 'sealer'>,
  { operation, url, ca, client_certificate: certificate, client_key: key }: ExtensionRow,
): { url: URL; ca: string | null; client?: { certificate: string; key: string } } {
  return {
    url: new URL(sealer.open(url, extensionPlace(operation, 'url'))),
    ca,
    ...(certificate === null || key === null
      ? {}
      : { client: { certificate, key: sealer.open(key, extensionPlace(operation, 'client-key')) } }),
  }
}

/** An extension's row as it is shown. */
export function extensionView(context: Pick<BootContext, 'sealer'>, row: ExtensionRow): ExtensionView {
  const target = ifReadable(() => extensionTarget(context, row))
  return {
    operation: row.operation,
    revision: row.revision,
    url: target === undefined ? masked : maskUrl(target.url),
    unreadable: target === undefined,
    timeoutSeconds: row.timeout_seconds,
    maxAnswerBytes: row.max_answer_bytes,
    answerTypes: JSON.parse(row.answer_types) as string[], // our own column
    ca: row.ca,
    clientCertificate: row.client_certificate,
    clientKey: row.client_key === null ? null : '***',
    createdAt: row.created_at,
    createdBy: row.created_by,
    updatedAt: row.updated_at,
  }
}

/** What an event tells of an extension. */
export function extensionSettingsOf(view: ExtensionView): Record<string, unknown> {
  const { url, timeoutSeconds, maxAnswerBytes, answerTypes, ca, clientCertificate } = view
  return {
    ...{ url, timeoutSeconds, maxAnswerBytes, answerTypes },
    ca: fingerprintsOf(ca),
    clientCertificate: fingerprintsOf(clientCertificate),
  }
}

/** Shows every extension, by name. */
export async function showExtensions(context: BootContext): Promise<ExtensionView[]> {
  return (await listExtensions(context.storage.db)).map((row) => extensionView(context, row))
}

/** Shows an extension; throws `not-found`. */
export async function showExtension(context: BootContext, operation: string): Promise<ExtensionView> {
  const row = await findExtension(context.storage.db, operation)
  if (row === undefined) throw noSuchExtension(operation)
  return extensionView(context, row)
}

/** Shows the keys that services may see a signature of. */
export async function showExtensionKeys(context: BootContext): Promise<ExtensionKeysView> {
  const rows = await extensionKeys(context)
  const now = context.clock()
  const signing = signingKey(rows, now)?.kid
  const issuer = extensionIssuer(context)
  return {
    issuer,
    jwksUrl: `${issuer}/jwks.json`,
    items: publishedKeys(rows, now).map((row) => ({
      kid: row.kid,
      madeAt: row.made_at,
      signsFrom: row.signs_from,
      endsAt: row.ends_at,
      signing: row.kid === signing,
      jwk: JSON.parse(row.jwk) as Record<string, unknown>, // our own column
    })),
  }
}

/** The error for an extension that is not there. */
export function noSuchExtension(operation: string): PawlError {
  return new PawlError('not-found', `extension ${quote(operation)} does not exist`, {
    hint: 'list them with pawl extension list',
  })
}
