import type { BootContext } from '../boot/context.ts'
import type { Noted, Notes } from '../boot/marks.ts'
import { inTransaction, type Work } from '../boot/work.ts'
import type { EventFacts, EventKind } from '../domain/event.ts'
import { PawlError } from '../errors.ts'
import { appendEvents } from '../storage/event-batch.ts'
import type { Role } from '../storage/tables.ts'
import { type Idempotency, onceIn } from './idempotency.ts'
import { countRevisions, type Precondition, wasChecked } from './revision.ts'

/**
 * The fleet is what operators change. Each change is one function here: one transaction that checks, writes and appends
 * the event that says who changed what from what to what, or does none of it. Nothing here knows HTTP.
 */

/** Who makes a change, and from where. */
export interface By {
  /** `operator:NAME`, or `server` for what it does by itself. */
  readonly actor: string
  readonly source: string | null
  readonly role: Role
  /** What showed who it is: `token:ID`, `session:ID` or `certificate:ID`; left out for the server itself. */
  readonly via?: string
  /** The image names that a publisher's token is for; null or left out: every one. */
  readonly scope?: string | null
  /** What the change depends on; who reads the row under its lock checks it with `requireRevision`. */
  readonly precondition?: Precondition | undefined
  /** Under which key the change is made once, however often it is asked for. */
  readonly idempotency?: Idempotency | undefined
}

/** A change under way: the transaction, and events that carry who makes it. */
export interface Change extends Work {
  readonly by: By
  /** Appends an event about a node, or about no single one. */
  note(kind: EventKind, node: string | null, detail: EventFacts['detail']): Promise<void>
  /** Appends many, in a few statements. */
  readonly notes: Notes
}

/**
 * Runs a change in one transaction. Two that take the same name at once: the second gets `conflict`. Asked again under the
 * same Idempotency-Key, it gives the answer that it gave.
 */
export async function change<T>(
  context: BootContext,
  by: By,
  apply: (change: Change) => Promise<T>,
): Promise<T> {
  if (by.idempotency !== undefined) useOnce(by.idempotency)
  try {
    return await inTransaction(context, (work) =>
      onceIn({ ...work, sealer: context.sealer }, by, async () => {
        const answer = await apply({
          ...work,
          by,
          note: async (kind, node, detail) => {
            await work.event({ kind, node, session: null, ...attributed(by, detail) })
            await countRevisions(work.tx, [{ kind, node }])
          },
          notes: async (events) => {
            const facts = events.map(({ kind, node, detail }) => ({
              ...{ kind, node, at: work.now, session: null },
              ...attributed(by, detail),
            }))
            await appendEvents(work.tx, context.storage.dialect, facts)
            await countRevisions(work.tx, events)
            work.afterCommit(() => {
              for (const event of facts) context.meter?.committed(event)
            })
          },
        })
        if (by.precondition !== undefined && !wasChecked(by.precondition))
          throw new PawlError('internal', 'a change did not look at what it depends on')
        return answer
      }),
    )
  } catch (error) {
    if (isForeignKeyViolation(error)) {
      throw new PawlError('conflict', 'another change removed what this one needs at this moment', {
        hint: 'look at what is there now, and try again',
        cause: error,
      })
    }
    throw isUniqueViolation(error)
      ? new PawlError('conflict', 'another change took the same name, MAC address or UUID at this moment', {
          hint: 'look at what is there now, and try again',
          cause: error,
        })
      : error
  }
}

/** The same change, whose notes wait until they are written: of hundreds of things at once, in a few statements. */
export function notingTogether(change: Change): { readonly change: Change; write(): Promise<void> } {
  const kept: Noted[] = []
  const note: Change['note'] = async (kind, node, detail) => void kept.push({ kind, node, detail })
  return { change: { ...change, note }, write: () => change.notes(kept.splice(0)) }
}

const used = new WeakSet<Idempotency>()

/** One request is one change: the answer of a first one must not be given for a second. */
function useOnce(idempotency: Idempotency): void {
  if (used.has(idempotency)) throw new PawlError('internal', 'one request makes two changes under one key')
  used.add(idempotency)
}

/** Who, from where and how, as every event of a change carries it. */
export function attributed(
  { actor, source, via }: By,
  detail: EventFacts['detail'],
): Pick<EventFacts, 'actor' | 'source' | 'detail'> {
  return { actor, source, detail: via === undefined ? detail : { ...detail, via } }
}

/** A unique constraint was broken: SQLite's extended result codes, PostgreSQL's class 23. */
export function isUniqueViolation(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === '23505' || code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY'
}

/** What a row names is gone. */
function isForeignKeyViolation(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === '23503' || code === 'SQLITE_CONSTRAINT_FOREIGNKEY'
}

/** The error for a node that is not there. */
export function noSuchNode(name: string): PawlError {
  return new PawlError('not-found', `node "${name}" does not exist`, {
    hint: 'list them with pawl node list',
  })
}

/** The error for a profile that is not there, naming those that are. */
export function noSuchProfile(name: string, existing: readonly string[]): PawlError {
  const shown = existing.slice(0, 20).join(', ')
  return new PawlError('not-found', `profile "${name}" does not exist`, {
    hint:
      existing.length === 0
        ? 'there are none yet: make one with pawl profile apply -f FILE'
        : `there are: ${shown}${existing.length > 20 ? ', …' : ''}`,
  })
}
