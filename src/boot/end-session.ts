import {
  advance,
  next,
  nodeTransitions,
  type ReinstallEvent,
  reinstallTransitions,
  sessionTransitions,
} from '../domain/state.ts'
import { updateNode } from '../storage/nodes.ts'
import * as sessions from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import { retireTokens } from '../storage/tokens.ts'
import { leaveCampaign } from './campaign.ts'
import { dropCredential } from './remove-credentials.ts'
import { noteRolloutEnd } from './rollout-outcome.ts'
import type { Work } from './work.ts'

/** How a session ends before it is ready. */
export interface Ending {
  readonly how: 'fail' | 'expire' | 'supersede'
  /** For the record, in words. */
  readonly cause: string
  readonly actor: string
  readonly source: string | null
  /** Retire the report token too: the node was disabled. Otherwise its late report is still taken note of. */
  readonly silence?: boolean
  /** A repeated stage 1 of the same machine, no cause for concern. */
  readonly repeat?: boolean
}

/** The cause of a session that the same machine's stage 1 retired at once. */
export const repeatedCause = 'stage 1 was asked again at once'

const kinds = { fail: 'session-failed', expire: 'session-expired', supersede: 'session-superseded' } as const
const failureCauses = { fail: 'reported', expire: 'expired' } as const

/**
 * Ends a live session that did not become ready: spends its tokens, cuts its downloads, gives the reinstall mark back,
 * and holds the node when that was the last attempt. Returns the node as it is then.
 */
export async function endSession<Node extends NodeRow>(
  work: Work,
  node: Node,
  session: SessionRow,
  ending: Ending,
): Promise<Node> {
  const { tx, now } = work
  const state = advance(sessionTransitions, session.state, ending.how, `session ${session.id}`)
  await sessions.endSession(tx, session.id, state, ending.cause, now)
  await retireTokens(tx, session.id, { except: ending.silence === true ? [] : ['report'] }, now)
  await dropCredential(work, session, ending.how)
  work.afterCommit(() => work.context.transfers.cut(session.id))
  await work.event({
    kind: kinds[ending.how],
    node: node.name,
    session: session.id,
    actor: ending.actor,
    source: ending.source,
    detail: {
      cause: ending.cause,
      stage: session.stage,
      ...(ending.repeat === true ? { repeat: true } : {}),
    },
  })
  const byOperator = ending.actor.startsWith('operator:')
  await noteRolloutEnd(
    work,
    session,
    ending.repeat === true ? 'repeated' : byOperator ? 'taken-back' : 'failed',
  )
  return changeNode(work, node, session, ending)
}

async function changeNode<Node extends NodeRow>(
  work: Work,
  node: Node,
  session: SessionRow,
  ending: Ending,
): Promise<Node> {
  let changed = node
  if (ending.how !== 'supersede' && next(nodeTransitions, node.state, 'session-failed') !== undefined) {
    changed = { ...changed, state: 'failed', failure_cause: failureCauses[ending.how] }
  }
  if (node.reinstall_session === session.id) changed = withMark(changed, 'session-ended')
  const attempts = changed.reinstall_attempts
  const last = changed.reinstall === 'marked' && attempts >= work.context.settings.maxReinstallAttempts
  if (last && next(nodeTransitions, changed.state, 'hold') !== undefined) {
    changed = { ...changed, state: 'held', failure_cause: null }
    await work.event({
      kind: 'node-held',
      node: node.name,
      session: session.id,
      actor: 'server',
      source: null,
      detail: { attempts },
    })
  }
  await updateNode(work.tx, node.id, {
    state: changed.state,
    failure_cause: changed.failure_cause,
    reinstall: changed.reinstall,
    reinstall_session: changed.reinstall_session,
    updated_at: work.now.toISOString(),
  })
  if (changed.state === 'held')
    await leaveCampaign(work, node, { state: 'failed', cause: `it failed ${attempts} times and is held` })
  return changed
}

/** The node with its reinstall mark moved on. Throws `conflict` where the table does not allow it. */
export function withMark<Node extends NodeRow>(node: Node, event: ReinstallEvent, session?: string): Node {
  const reinstall = advance(reinstallTransitions, node.reinstall, event, `the reinstall mark of ${node.name}`)
  return {
    ...node,
    reinstall,
    reinstall_session: reinstall === 'serving' ? (session ?? node.reinstall_session) : null,
  }
}

/** Whether a live session has run out of time, idle or whole. */
export function isOverdue(session: SessionRow, now: Date, idleSeconds: number): boolean {
  const idle = now.getTime() - Date.parse(session.last_seen_at) > idleSeconds * 1000
  return idle || Date.parse(session.expires_at) <= now.getTime()
}

/** Ends one overdue session. */
export function expire<Node extends NodeRow>(work: Work, node: Node, session: SessionRow): Promise<Node> {
  return endSession(work, node, session, {
    how: 'expire',
    cause: `no sign of life after ${session.stage}`,
    actor: 'server',
    source: null,
  })
}
