import type { BootContext } from '../boot/context.ts'
import { quote } from '../domain/node.ts'
import { tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import type { Queries, Tx } from '../storage/database.ts'
import { appendEvent } from '../storage/events.ts'
import {
  findOperator,
  insertOperator,
  lockOperators,
  type NewOperatorRow,
  updateOperator,
} from '../storage/operators.ts'
import { type PageRequest, pageOfOperators } from '../storage/pages.ts'
import type { OperatorRow, Role } from '../storage/tables.ts'
import { attributed, type By } from './change.ts'
import { parseGlob } from './glob.ts'
import { onceIn } from './idempotency.ts'
import { type Listed, listed } from './listed.ts'
import { requireRevision } from './revision.ts'

/** What each role may do. A route names one; admin may do everything. */
export const roleGrants: Readonly<Record<Role, readonly Role[]>> = {
  viewer: ['viewer'],
  operator: ['viewer', 'operator'],
  publisher: ['viewer', 'publisher'],
  admin: ['viewer', 'operator', 'publisher', 'admin'],
}

/** An operator token to make. */
export interface NewOperator {
  /** Who will hold it; events name it. Several tokens may have one name, so that one can be replaced by the next. */
  readonly name: string
  readonly role: Role
  /** Null: it does not expire. */
  readonly expiresAt: Date | null
  /** For publishers: a pattern of the image names they may publish and point channels of at; null or left out: every one. */
  readonly scope?: string | null
}

/** An operator token as operators see it: never its secret. */
export interface OperatorView {
  readonly id: string
  readonly name: string
  readonly role: Role
  readonly scope: string | null
  readonly createdAt: string
  readonly expiresAt: string | null
  readonly revokedAt: string | null
  /** 2 when it is revoked. */
  readonly revision: number
  /** To the minute; null: never. */
  readonly lastUsedAt: string | null
  readonly lastUsedFrom: string | null
  /** Made by `pawl login` for whoever is named: it opens nothing once the provider is taken out of the settings. */
  readonly personal: boolean
}

/** An operator token just made; `token` is shown this once. */
export interface IssuedOperator extends OperatorView {
  readonly token: string
}

/** The server itself: who makes the first token. */
export const byServer: By = { actor: 'server', source: null, role: 'admin' }

/** What making a token needs: less than a server, so that `pawl init` can make the first one. */
export type OperatorContext = Pick<BootContext, 'storage' | 'clock' | 'randomBytes' | 'sealer'>

/** Makes an operator token. Its text is returned once; only its hash is stored. */
export async function createOperator(
  context: OperatorContext,
  asked: NewOperator,
  by = byServer,
): Promise<string> {
  return (await issueOperator(context, asked, by)).token
}

/** Makes an operator token, and shows it whole. */
export async function issueOperator(
  context: OperatorContext,
  asked: NewOperator,
  by: By,
): Promise<IssuedOperator> {
  const now = context.clock()
  const token = tokenFromRandom(context.randomBytes(33))
  const row: NewOperatorRow = {
    id: token.id,
    name: parseOperatorName(asked.name),
    role: asked.role,
    secret_hash: token.hash,
    created_at: now.toISOString(),
    expires_at: parseExpiry(asked.expiresAt, now),
    revoked_at: null,
    scope: parseScope(asked),
  }
  return context.storage.transaction((tx) =>
    onceIn({ tx, now, sealer: context.sealer }, by, async () => {
      await insertOperator(tx, row)
      const { id, name, role, expires_at: expiresAt, scope } = row
      await note(tx, by, now, 'operator-created', { id, name, role, expiresAt, scope })
      const made = { person: null, ...row, last_used_at: null, last_used_from: null }
      return { ...viewOf(made), token: token.text }
    }),
  )
}

/** Shows operator tokens, the newest first; revoked and expired ones too: events name them. */
export async function showOperators(db: Queries, page: PageRequest): Promise<Listed<OperatorView>> {
  return listed(await pageOfOperators(db, page), viewOf)
}

/** Takes an operator token back, at once. Throws `not-found`, and `conflict` for the last admin that is left. */
export async function revokeOperator(context: OperatorContext, by: By, id: string): Promise<OperatorView> {
  return context.storage.transaction(async (tx) => {
    const rows = await lockOperators(tx, context.storage.dialect)
    const row = rows.find((other) => other.id === id)
    if (row === undefined) throw noSuchToken(id)
    await requireRevision({ tx, by }, { kind: 'operator token', name: id }, revisionOf(row))
    if (row.revoked_at !== null) return viewOf(row)
    const now = context.clock()
    if (row.role === 'admin') refuseLast(rows, row)
    const revoked = { ...row, revoked_at: now.toISOString() }
    await updateOperator(tx, id, { revoked_at: revoked.revoked_at })
    await note(tx, by, now, 'operator-revoked', { id, name: row.name, role: row.role })
    return viewOf(revoked)
  })
}

/** Shows an operator token; throws `not-found`. */
export async function showOperator(db: Queries, id: string): Promise<OperatorView> {
  const row = await findOperator(db, id)
  if (row === undefined) throw noSuchToken(id)
  return viewOf(row)
}

function noSuchToken(id: string): PawlError {
  return new PawlError('not-found', `no operator token has the id ${quote(id)}`, {
    hint: 'list them with pawl operator token list',
  })
}

/** All that operators change of a token is that it is revoked. */
function revisionOf({ revoked_at }: Pick<OperatorRow, 'revoked_at'>): number {
  return revoked_at === null ? 1 : 2
}

/** Throws `forbidden` where a publisher's token is for other images. */
export function checkScope(by: By, image: string): void {
  if (by.scope === undefined || by.scope === null || parseGlob(by.scope)(image)) return
  throw new PawlError('forbidden', `this token is for images named "${by.scope}", not for ${quote(image)}`)
}

/** Nobody could make another token: at once, or when the others have expired. */
function refuseLast(rows: readonly OperatorRow[], row: OperatorRow): void {
  const others = rows.some(
    (other) =>
      other.id !== row.id && other.role === 'admin' && other.revoked_at === null && other.expires_at === null,
  )
  if (others) return
  throw new PawlError('conflict', `token ${row.id} of ${row.name} is the last admin's`, {
    hint: 'make another admin first: pawl operator token create --name N --role admin',
  })
}

function note(
  tx: Tx,
  by: By,
  at: Date,
  kind: 'operator-created' | 'operator-revoked',
  detail: Record<string, unknown>,
): Promise<void> {
  return appendEvent(tx, { kind, at, node: null, session: null, ...attributed(by, detail) })
}

function viewOf(row: OperatorRow): OperatorView {
  const { id, name, role, scope } = row
  return {
    id,
    name,
    role,
    scope,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    revision: revisionOf(row),
    lastUsedAt: row.last_used_at,
    lastUsedFrom: row.last_used_from,
    personal: row.person !== null,
  }
}

/** When it shall expire, as it is stored; throws `invalid` for a time that is over. */
export function parseExpiry(expiresAt: Date | null, now: Date): string | null {
  if (expiresAt === null || expiresAt > now) return expiresAt?.toISOString() ?? null
  throw new PawlError('invalid', `the token would expire at ${expiresAt.toISOString()}, which is over`)
}

/** The images that it shall be for; throws `invalid` where that is no pattern, or the role has no use for one. */
export function parseScope({ role, scope = null }: Pick<NewOperator, 'role' | 'scope'>): string | null {
  if (scope === null) return null
  if (role !== 'publisher')
    throw new PawlError('invalid', `a scope is for the role publisher, not for ${role}`)
  parseGlob(scope, 'image names')
  return scope
}

/** The name of a token or certificate; throws `invalid`. */
export function parseOperatorName(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9._@-]{0,61}[a-z0-9])?$/.test(text)) return text
  throw new PawlError(
    'invalid',
    `operator name ${quote(text)} is not 1 to 63 lower-case letters, digits, ".", "_", "@" or "-"`,
  )
}
