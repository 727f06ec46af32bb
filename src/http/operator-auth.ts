import type { FastifyReply, FastifyRequest } from 'fastify'
import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'
import type { By } from '../fleet/change.ts'
import { roleGrants } from '../fleet/operators.ts'
import type { SignInSettings } from '../fleet/sign-in-settings.ts'
import { noteUse } from '../storage/identity.ts'
import type { Role } from '../storage/tables.ts'
import { type Fault, identify, isOperator, type Operator } from './credentials.ts'
import { checkSameSite } from './cross-site.ts'
import { type FailureCount, openFailureCount } from './failure-count.ts'
import { sourceOf } from './source.ts'

export type { Operator } from './credentials.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The role that a route needs, or several of which one is enough; `anyone` for the few that need no token. A route without it is not registered. */
    role?: Role | readonly Role[] | 'anyone'
  }
}

/** The check of who asks, and what it found out about a request. */
export interface OperatorAuth {
  /** Runs before a body is read: who may not ask is not listened to. */
  check(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** Throws when who asked may not ask any more: for answers that go on for hours. It does not count as a use. */
  stillMay(request: FastifyRequest): Promise<void>
  /** Who asks; for handlers of routes that need a role. */
  operatorOf(request: FastifyRequest): Operator
  /** Who asks, as changes record it. */
  byOf(request: FastifyRequest): By
  /** Counts and records what was not accepted; throws `too-many-attempts` past the limit. */
  refuse(request: FastifyRequest, fault: Fault): void
  /** Writes down that something was used, at most once a minute; never throws and never waits. */
  noteUse(operator: Operator, source: string): void
  readonly failures: FailureCount
  /** Resolves when what was written down is written. */
  settled(): Promise<void>
}

const tables = {
  token: 'operators',
  session: 'operator_sessions',
  certificate: 'operator_certificates',
} as const
const noteEverySeconds = 60

/** Opens the check for one listener. */
export function operatorAuth(context: BootContext, signIn?: SignInSettings): OperatorAuth {
  const known = new WeakMap<FastifyRequest, Operator>()
  const failures = openFailureCount(context.clock)
  const writing = new Set<Promise<void>>()

  async function check(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (request.is404) return
    // The listener registers no route without a role; should one slip in, it is admin's.
    const role = request.routeOptions.config.role ?? 'admin'
    if (role === 'anyone') return
    const found = await identify(context, signIn, request)
    if (!isOperator(found)) {
      reply.header('www-authenticate', 'Bearer realm="pawl"')
      refuse(request, found)
      throw unauthenticated(found.message)
    }
    checkSameSite(found, signIn, request)
    checkRole(found, role)
    known.set(request, found)
    note(found, sourceOf(request))
  }

  async function stillMay(request: FastifyRequest): Promise<void> {
    const found = await identify(context, signIn, request)
    if (!isOperator(found)) throw unauthenticated(found.message)
    const role = request.routeOptions.config.role ?? 'admin'
    if (role !== 'anyone') checkRole(found, role)
  }

  function refuse(request: FastifyRequest, { cause, detail }: Fault): void {
    const source = sourceOf(request)
    // Who presents nothing tried nothing.
    if (cause !== undefined) {
      const about = { cause, request: request.routeOptions.url ?? 'none', ...detail }
      context.refusals.record({
        kind: 'operator-refused',
        cause,
        node: null,
        session: null,
        source,
        detail: about,
      })
    }
    failures.count(source)
  }

  function note({ how, id, lastUsedAt }: Operator, source: string): void {
    const now = context.clock()
    const before = addSeconds(now, -noteEverySeconds)
    if (lastUsedAt !== null && Date.parse(lastUsedAt) > before.getTime()) return
    // Nobody waits for it, and where it fails nobody is held up: the next request tries again.
    const written: Promise<void> = noteUse(
      context.storage.db,
      { table: tables[how], id },
      { now, before, source },
    )
      .catch(() => {})
      .finally(() => writing.delete(written))
    writing.add(written)
  }

  function operatorOf(request: FastifyRequest): Operator {
    const operator = known.get(request)
    if (operator === undefined) throw new PawlError('internal', 'this route let nobody in')
    return operator
  }

  return {
    check,
    stillMay,
    operatorOf,
    byOf: (request) => {
      const { name, role, scope, how, id } = operatorOf(request)
      return { actor: `operator:${name}`, source: sourceOf(request), via: `${how}:${id}`, role, scope }
    },
    refuse,
    noteUse: note,
    failures,
    settled: async () => void (await Promise.all(writing)),
  }
}

function checkRole(operator: Operator, role: Role | readonly Role[]): void {
  const roles = typeof role === 'string' ? [role] : role
  if (roles.some((one) => roleGrants[operator.role].includes(one))) return
  const needed = roles.join(' or ')
  throw new PawlError('forbidden', `this needs the role ${needed}; ${operator.name} has ${operator.role}`)
}

function unauthenticated(message: string): PawlError {
  return new PawlError('unauthenticated', message, {
    hint: 'send "Authorization: Bearer TOKEN" with the token that pawl init made (DIR/admin.token), or sign in',
  })
}
