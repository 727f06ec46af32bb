import type { BootContext } from '../boot/context.ts'
import { quote } from '../domain/node.ts'
import { tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import { appendEvent } from '../storage/events.ts'
import { insertOperator } from '../storage/operators.ts'
import type { Role } from '../storage/tables.ts'
import type { By } from './change.ts'

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
}

/** The server itself: who makes the first token. */
export const byServer: By = { actor: 'server', source: null, role: 'admin' }

/** What making a token needs: less than a server, so that `pawl init` can make the first one. */
export type OperatorContext = Pick<BootContext, 'storage' | 'clock' | 'randomBytes'>

/** Makes an operator token. Its text is returned once; only its hash is stored. */
export async function createOperator(
  context: OperatorContext,
  asked: NewOperator,
  by = byServer,
): Promise<string> {
  const name = parseOperatorName(asked.name)
  const now = context.clock()
  const { role } = asked
  if (asked.expiresAt !== null && asked.expiresAt <= now) {
    throw new PawlError(
      'invalid',
      `the token would expire at ${asked.expiresAt.toISOString()}, which is over`,
    )
  }
  const token = tokenFromRandom(context.randomBytes(33))
  const expiresAt = asked.expiresAt?.toISOString() ?? null
  await context.storage.transaction(async (tx) => {
    await insertOperator(tx, {
      id: token.id,
      name,
      role,
      secret_hash: token.hash,
      created_at: now.toISOString(),
      expires_at: expiresAt,
      revoked_at: null,
    })
    await appendEvent(tx, {
      kind: 'operator-created',
      at: now,
      node: null,
      session: null,
      actor: by.actor,
      source: by.source,
      detail: { id: token.id, name, role, expiresAt },
    })
  })
  return token.text
}

function parseOperatorName(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9._@-]{0,61}[a-z0-9])?$/.test(text)) return text
  throw new PawlError(
    'invalid',
    `operator name ${quote(text)} is not 1–63 lower-case letters, digits, ".", "_", "@" or "-"`,
  )
}
