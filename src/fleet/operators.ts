import type { BootContext } from '../boot/context.ts'
import { quote } from '../domain/node.ts'
import { tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import { insertOperator } from '../storage/operators.ts'
import type { Role } from '../storage/tables.ts'
import { type By, change } from './change.ts'

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

/** Makes an operator token. Its text is returned once; only its hash is stored. */
export async function createOperator(context: BootContext, asked: NewOperator, by = byServer): Promise<string> {
  const name = parseOperatorName(asked.name)
  return change(context, by, async (change) => {
    if (asked.expiresAt !== null && asked.expiresAt <= change.now) {
      throw new PawlError(
        'invalid',
        `the token would expire at ${asked.expiresAt.toISOString()}, which is over`,
      )
    }
    const token = tokenFromRandom(context.randomBytes(33))
    const expiresAt = asked.expiresAt?.toISOString() ?? null
    await insertOperator(change.tx, {
      id: token.id,
      name,
      role: asked.role,
      secret_hash: token.hash,
      created_at: change.now.toISOString(),
      expires_at: expiresAt,
      revoked_at: null,
    })
    await change.note('operator-created', null, { id: token.id, name, role: asked.role, expiresAt })
    return token.text
  })
}

function parseOperatorName(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9._@-]{0,61}[a-z0-9])?$/.test(text)) return text
  throw new PawlError(
    'invalid',
    `operator name ${quote(text)} is not 1–63 lower-case letters, digits, ".", "_", "@" or "-"`,
  )
}
