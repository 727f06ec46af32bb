import type { EventFacts } from '../domain/event.ts'
import { Refusal } from '../domain/refusal.ts'
import type { Arrival, ToldSpan } from '../domain/span.ts'
import { isPawlError } from '../errors.ts'
import type { Tx } from '../storage/database.ts'
import { appendEvent } from '../storage/events.ts'
import { findNode } from '../storage/nodes.ts'
import { insertTokens, type NewToken } from '../storage/tokens.ts'
import type { PresentedCertificate } from './certificate.ts'
import type { BootContext } from './context.ts'

/** One transaction of the boot story: the time is read once, and what must wait for the commit is kept until then. */
export interface Work {
  readonly context: BootContext
  readonly tx: Tx
  readonly now: Date
  /** Tokens that are not stored yet: whatever writes next takes them along, the end of the transaction at the latest. */
  readonly minted: NewToken[]
  /** Appends an event now, in this transaction. */
  event(facts: Omit<EventFacts, 'at'>): Promise<void>
  /**
   * Runs when the transaction has been committed, not when it was rolled back. What has happened has happened: an effect that
   * throws is told to the context and takes nothing back, no other effect and no answer.
   */
  afterCommit(effect: () => void): void
}

/** Runs `work` in one transaction. */
export async function inTransaction<T>(context: BootContext, work: (work: Work) => Promise<T>): Promise<T> {
  const now = context.clock()
  const { meter } = context
  let effects: (() => void)[] = []
  const result = await context.storage.transaction(async (tx) => {
    effects = [] // a run before this one was rolled back
    const minted: NewToken[] = []
    const done = await work({
      context,
      tx,
      now,
      minted,
      event: async (facts) => {
        await appendEvent(tx, { ...facts, at: now })
        if (meter !== undefined) effects.push(() => meter.committed({ ...facts, at: now }))
      },
      afterCommit: (effect) => effects.push(effect),
    })
    await insertTokens(tx, minted)
    return done
  })
  for (const effect of effects) attempt(context, effect)
  return result
}

function attempt(context: BootContext, effect: () => void): void {
  try {
    effect()
  } catch (error) {
    context.onEffectError?.(error)
  }
}

/** Who asks for what, as far as a request tells. */
export interface Asking {
  /** The host name in the path, not checked yet; undefined where the path has none. */
  readonly host: string | undefined
  /** The client's address, after trusted proxies. */
  readonly source: string
  /** What was asked for, for the event: a route's name. */
  readonly request: string
  /** The client certificate of the connection; undefined where none was presented. */
  readonly certificate?: PresentedCertificate | undefined
  /** For the timeline. */
  readonly arrival?: Arrival | undefined
  /** What the node's agent says it did since it asked last. */
  readonly told?: readonly ToldSpan[] | undefined
}

/** Runs `work`; a refusal that it throws is put on the record, in a transaction of its own, and thrown on. */
export async function recordingRefusals<T>(
  context: BootContext,
  asking: Asking,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof Refusal) await recordRefusal(context, asking, error)
    else if (isPawlError(error, 'invalid')) {
      await recordRefusal(context, asking, new Refusal('malformed', { detail: { reason: error.message } }))
    }
    throw error
  }
}

/** Puts a refusal on the record of the node it is about, or on the chain of unknown hosts. */
export async function recordRefusal(context: BootContext, asking: Asking, refusal: Refusal): Promise<void> {
  const { host, source, request } = asking
  const name = refusal.subject.node ?? (await knownName(context, host))
  context.refusals.record({
    kind: 'refused',
    cause: refusal.why,
    node: name ?? null,
    session: refusal.subject.session ?? null,
    source,
    detail: {
      cause: refusal.why,
      request,
      ...(name === undefined && host !== undefined ? { host: host.slice(0, 253) } : {}),
      ...refusal.subject.detail,
    },
  })
  const { alarm } = refusal.subject
  if (alarm === undefined) return
  context.refusals.record({
    ...alarm,
    alarm: true,
    cause: refusal.why,
    node: name ?? null,
    session: refusal.subject.session ?? null,
    source,
  })
}

async function knownName(context: BootContext, host: string | undefined): Promise<string | undefined> {
  if (host === undefined) return undefined
  try {
    return (await findNode(context.storage.db, host))?.name
  } catch {
    return undefined // the database does not answer: the refusal is on record nowhere, the answer is the same
  }
}
