import { addSeconds } from '../domain/clock.ts'
import type { EventFacts, EventKind } from '../domain/event.ts'
import { advance, next, nodeTransitions, reinstallTransitions } from '../domain/state.ts'
import { putMarks } from '../storage/campaigns.ts'
import { appendEvents } from '../storage/event-batch.ts'
import { updateNodesAlike } from '../storage/node-batch.ts'
import type { NodeRow } from '../storage/tables.ts'
import { countAnew } from './stage1-limit.ts'
import type { Work } from './work.ts'

/** Reinstall marks, of one node or of thousands: a few statements whatever their number, since SQLite has one writer. */

/** An event, but for who acts. */
export interface Noted {
  readonly kind: EventKind
  readonly node: string | null
  readonly detail: EventFacts['detail']
}

/** Appends events of whoever acts: the operator who starts it, the server later. */
export type Notes = (events: readonly Noted[]) => Promise<void>

/** Notes what the server does by itself. */
export function serverNotes({ tx, now, context }: Work): Notes {
  return (events) =>
    appendEvents(
      tx,
      context.storage.dialect,
      events.map((event) => ({ ...event, at: now, session: null, actor: 'server', source: null })),
    )
}

/** Marks nodes: attempts begin again, held nodes are let go, and their next boots need no other word of an operator. */
export async function markNodes(
  work: Work,
  nodes: readonly NodeRow[],
  notes: Notes,
  { campaign, markSeconds }: { readonly campaign?: string; readonly markSeconds: number | null },
): Promise<void> {
  const expiresAt = markSeconds === null ? null : addSeconds(work.now, markSeconds).toISOString()
  const more = {
    ...(campaign === undefined ? {} : { campaign }),
    ...(expiresAt === null ? {} : { expiresAt }),
  }
  await moveMarks(work, nodes, { event: 'mark', expiresAt }, notes, (node) => ({
    kind: 'reinstall-marked',
    node: node.name,
    detail: { before: node.reinstall, attemptsBefore: node.reinstall_attempts, ...more },
  }))
}

/** Takes marks back, or lets them run out. A node that was held for its reinstall is let go: an operator gave that up. */
export function clearMarks(
  work: Work,
  nodes: readonly NodeRow[],
  notes: Notes,
  event: 'cancel' | 'expire',
  noteOf: (node: NodeRow) => Noted,
): Promise<void> {
  return moveMarks(work, nodes, { event, expiresAt: null }, notes, noteOf)
}

interface Move {
  readonly event: 'mark' | 'cancel' | 'expire'
  readonly expiresAt: string | null
}

async function moveMarks(
  work: Work,
  nodes: readonly NodeRow[],
  { event, expiresAt }: Move,
  notes: Notes,
  noteOf: (node: NodeRow) => Noted,
): Promise<void> {
  const moves = nodes.map((node) => ({
    node,
    reinstall: advance(reinstallTransitions, node.reinstall, event, `the reinstall mark of ${node.name}`),
    released: next(nodeTransitions, node.state, 'release'),
  }))
  for (const alike of Map.groupBy(moves, ({ reinstall, released }) => `${reinstall} ${released}`).values()) {
    const [first] = alike
    if (first === undefined) continue
    const changes: Partial<NodeRow> = {
      reinstall: first.reinstall,
      reinstall_attempts: 0,
      reinstall_session: null,
      updated_at: work.now.toISOString(),
      ...(event === 'mark' ? { armed: 1, ...countAnew(work.now) } : {}),
      ...(first.released === undefined ? {} : { state: first.released }),
    }
    await updateNodesAlike(
      work.tx,
      alike.map(({ node }) => node.id),
      changes,
    )
  }
  await putMarks(
    work.tx,
    nodes.map(({ id }) => id),
    expiresAt,
  )
  await notes(
    moves.flatMap(({ node, released }): Noted[] => [
      ...(released === undefined ? [] : [releaseOf(node, released)]),
      noteOf(node),
    ]),
  )
}

function releaseOf({ name, state }: NodeRow, released: NodeRow['state']): Noted {
  return { kind: 'node-changed', node: name, detail: { before: { state }, after: { state: released } } }
}
