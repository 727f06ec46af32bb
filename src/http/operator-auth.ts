import type { FastifyReply, FastifyRequest } from 'fastify'
import type { BootContext } from '../boot/context.ts'
import { countingUnit } from '../domain/address.ts'
import type { Clock } from '../domain/clock.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import type { By } from '../fleet/change.ts'
import { roleGrants } from '../fleet/operators.ts'
import { findOperator } from '../storage/operators.ts'
import type { OperatorRow, Role } from '../storage/tables.ts'
import { bearer } from './routes/boot.ts'
import { sourceOf } from './source.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The role that a route needs, or several of which one is enough; `anyone` for the few that need no token. A route without it is not registered. */
    role?: Role | readonly Role[] | 'anyone'
  }
}

/** Who an operator token belongs to. */
export interface Operator {
  readonly name: string
  readonly role: Role
  readonly scope: string | null
}

/** The check of operator tokens, and what it found out about a request. */
export interface OperatorAuth {
  /** Runs before a body is read: who may not ask is not listened to. */
  check(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** Who asks; for handlers of routes that need a role. */
  operatorOf(request: FastifyRequest): Operator
  /** Who asks, as changes record it. */
  byOf(request: FastifyRequest): By
}

/** Opens the check for one listener. */
export function operatorAuth(context: BootContext): OperatorAuth {
  const known = new WeakMap<FastifyRequest, Operator>()
  const failures = openFailureCount(context.clock)

  async function check(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (request.is404) return
    // The listener registers no route without a role; should one slip in, it is admin's.
    const role = request.routeOptions.config.role ?? 'admin'
    if (role === 'anyone') return
    try {
      const operator = await authenticate(context, bearer(request))
      const roles = typeof role === 'string' ? [role] : role
      if (!roles.some((one) => roleGrants[operator.role].includes(one))) {
        const needed = roles.join(' or ')
        throw new PawlError(
          'forbidden',
          `this needs the role ${needed}; ${operator.name} has ${operator.role}`,
        )
      }
      known.set(request, operator)
    } catch (error) {
      if (!(error instanceof PawlError) || error.code !== 'unauthenticated') throw error
      failures.count(sourceOf(request))
      reply.header('www-authenticate', 'Bearer realm="pawl"')
      throw error
    }
  }

  function operatorOf(request: FastifyRequest): Operator {
    const operator = known.get(request)
    if (operator === undefined) throw new PawlError('internal', 'this route let nobody in')
    return operator
  }

  return {
    check,
    operatorOf,
    byOf: (request) => {
      const { name, role, scope } = operatorOf(request)
      return { actor: `operator:${name}`, source: sourceOf(request), role, scope }
    },
  }
}

/** What a token is compared with that names none of ours, so that a guess takes the same way through the code. */
const nobody = '0'.repeat(64) as SecretHash

async function authenticate(context: BootContext, text: string | undefined): Promise<Operator> {
  const presented = text === undefined ? undefined : parseToken(text)
  if (presented === undefined) throw unauthenticated('no valid operator token was given')
  const row = await findOperator(context.storage.db, presented.id)
  const right = hashesEqual(hashSecret(presented.secret), (row?.secret_hash ?? nobody) as SecretHash)
  if (row === undefined || !right) throw unauthenticated('no valid operator token was given')
  // From here on the holder has shown the secret: what is wrong with the token may be told.
  checkValid(row, context.clock())
  return { name: row.name, role: row.role, scope: row.scope }
}

function checkValid(row: OperatorRow, now: Date): void {
  if (row.revoked_at !== null) throw unauthenticated('the operator token was revoked')
  if (row.expires_at !== null && Date.parse(row.expires_at) <= now.getTime())
    throw unauthenticated(`the operator token expired at ${row.expires_at}`)
}

function unauthenticated(message: string): PawlError {
  return new PawlError('unauthenticated', message, {
    hint: 'send "Authorization: Bearer TOKEN" with the token that pawl init made (DIR/admin.token)',
  })
}

const failuresPerMinute = 20
const maxAddresses = 10_000

/**
 * Counts wrong tokens per address (IPv6: per /64). Past the limit they are answered 429 for the rest of the minute; a right
 * token is never held up, so that nobody locks operators out from an address they share. Guessing 192 random bits is
 * hopeless either way: this bounds noise.
 */
function openFailureCount(clock: Clock): { count(source: string): void } {
  const windows = new Map<string, { readonly since: number; failures: number }>()
  return {
    count(source) {
      const now = clock().getTime()
      const unit = countingUnit(source)
      const known = windows.get(unit)
      const window = known !== undefined && now - known.since < 60_000 ? known : { since: now, failures: 0 }
      window.failures += 1
      windows.delete(unit)
      windows.set(unit, window) // behind the others: the first is the one that was quiet longest
      const [quietest] = windows.keys()
      if (windows.size > maxAddresses && quietest !== undefined) windows.delete(quietest)
      if (window.failures <= failuresPerMinute) return
      throw new PawlError('too-many-attempts', 'too many wrong operator tokens came from this address', {
        retryAfterSeconds: Math.ceil((window.since + 60_000 - now) / 1000),
      })
    },
  }
}
