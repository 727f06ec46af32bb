import { Refusal } from '../domain/refusal.ts'
import type { SshHostKey } from '../domain/ssh-host-key.ts'
import { advance, next, nodeTransitions, type SessionEvent, sessionTransitions } from '../domain/state.ts'
import { parseIdempotencyKey } from '../domain/token.ts'
import type { WireguardKey } from '../domain/wireguard-key.ts'
import { putMarks } from '../storage/campaigns.ts'
import { updateNode } from '../storage/nodes.ts'
import { writeRedemption } from '../storage/redemption.ts'
import { touchSession } from '../storage/sessions.ts'
import { leaveCampaign } from './campaign.ts'
import type { BootContext } from './context.ts'
import { endSession, expire, isOverdue, withMark } from './end-session.ts'
import { type OpenedToken, openToken } from './open-token.ts'
import { dropCredential } from './remove-credentials.ts'
import { noteRolloutEnd } from './rollout-outcome.ts'
import { openAnswer, sealAnswer } from './sealed-answer.ts'
import { notHeldBack } from './stage1-limit.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/** A report as it arrives. */
export interface Report extends Asking {
  readonly token: string | undefined
  readonly key: string | undefined
  /** `success`, or what went wrong in words. */
  readonly message: string
  /** An error that the node will not try to get over. */
  readonly final: boolean
  /** The public SSH host keys that the system has made for itself; kept with a success. */
  readonly sshHostKeys?: readonly SshHostKey[]
  /** The public key of the tunnel that its join set up; kept with a success. */
  readonly wireguardPublicKey?: WireguardKey
}

const maxMessage = 2048

/** Takes a report: many errors, one success, and late ones noted. Throws a Refusal; answered 204 otherwise. */
export function takeReport(context: BootContext, report: Report): Promise<void> {
  return recordingRefusals(context, report, () =>
    inTransaction(context, async (work) => {
      const opened = await openToken(work, report, report.token, { kind: 'report', evenIfEnded: true })
      const success = report.message === 'success'
      if (success && opened.token.consumed_at !== null) return repeatSuccess(opened, report)
      const overdue = isOverdue(opened.session, work.now, context.settings.sessionIdleSeconds)
      if (opened.session.ended_at === null && overdue) await expire(work, opened.node, opened.session)
      if (opened.session.ended_at !== null || overdue) return noteLate(work, opened, report)
      if (success) return succeed(work, opened, report)
      return report.final ? failFinally(work, opened, report) : noteError(work, opened, report)
    }),
  )
}

/** The same success under the same key again: the answer was lost on its way. There is nothing in it to give twice. */
function repeatSuccess({ token, presented, node, session }: OpenedToken, report: Report): void {
  const key = report.key === undefined ? undefined : parseIdempotencyKey(report.key)
  const known =
    key !== undefined &&
    token.answer !== null &&
    openAnswer(token.answer, presented.secret, key) !== undefined
  if (!known) throw new Refusal('spent-token', { node: node.name, session: session.id })
}

async function succeed(work: Work, opened: OpenedToken, report: Report): Promise<void> {
  const { tx, now } = work
  const { session, node, presented } = opened
  const event: SessionEvent = session.tokens === 'epoxy' ? 'epoxy-success' : 'success'
  const state = next(sessionTransitions, session.state, event)
  const subject = { node: node.name, session: session.id }
  if (state === undefined)
    throw new Refusal('early-success', { ...subject, detail: { state: session.state } })
  const key = report.key === undefined ? undefined : parseIdempotencyKey(report.key)
  const first = await writeRedemption(tx, {
    ...{ token: presented.id, hash: opened.hash, session: session.id, now },
    answer: key === undefined ? null : sealAnswer('', presented.secret, key, work.context.randomBytes),
    to: { state, stage: 'report', endedAt: now },
    retires: { except: ['report'] },
    minted: work.minted.splice(0),
  })
  if (!first) throw new Refusal('spent-token', subject)
  await dropCredential(work, session, 'success')
  // Only the session that served the reinstall clears its mark: a mark set since then is for the next boot.
  const cleared =
    node.reinstall_session === session.id ? { ...withMark(node, 'success'), reinstall_attempts: 0 } : node
  await updateNode(tx, node.id, {
    state: advance(nodeTransitions, node.state, 'session-ready', `node ${node.name}`),
    reinstall: cleared.reinstall,
    reinstall_session: cleared.reinstall_session,
    reinstall_attempts: cleared.reinstall_attempts,
    ...notHeldBack,
    wireguard_public_key: report.wireguardPublicKey ?? null,
    updated_at: now.toISOString(),
  })
  if (cleared !== node) {
    await putMarks(tx, [node.id], null)
    await leaveCampaign(work, node, { state: 'done', cause: null })
  }
  await noteRolloutEnd(work, session, 'succeeded')
  await note(work, opened, report, 'session-ready', {
    sequence: session.sequence,
    reinstalled: cleared !== node,
    ...(report.sshHostKeys === undefined ? {} : { sshHostKeys: report.sshHostKeys }),
    ...(report.wireguardPublicKey === undefined ? {} : { wireguardPublicKey: report.wireguardPublicKey }),
  })
}

function failFinally(work: Work, { node, session }: OpenedToken, report: Report): Promise<void> {
  const cause = ownWords(report.message)
  return endSession(work, node, session, { how: 'fail', cause, actor: 'node', source: report.source }).then(
    () => {},
  )
}

async function noteError(work: Work, opened: OpenedToken, report: Report): Promise<void> {
  await touchSession(work.tx, opened.session.id, work.now)
  await note(work, opened, report, 'attempt-failed', {
    message: ownWords(report.message),
    stage: opened.session.stage,
  })
}

/** A session that is no longer current changes nothing. Bounded like refusals: a node may repeat it for a day. */
function noteLate(work: Work, { node, session }: OpenedToken, report: Report): void {
  const facts = {
    kind: 'reported-late' as const,
    cause: 'late',
    node: node.name,
    session: session.id,
    source: report.source,
    detail: { message: ownWords(report.message), state: session.state },
  }
  work.afterCommit(() => work.context.refusals.record(facts))
}

function note(
  work: Work,
  { node, session }: OpenedToken,
  report: Report,
  kind: 'session-ready' | 'attempt-failed',
  detail: Record<string, unknown>,
): Promise<void> {
  return work.event({
    kind,
    node: node.name,
    session: session.id,
    actor: 'node',
    source: report.source,
    detail,
  })
}

/**
 * A node's own words, bounded, with what could disturb a terminal or a page replaced. URLs and long words may hold
 * tokens and are cut; a SHA-256 stays. */
export function ownWords(message: string): string {
  return message
    .slice(0, maxMessage)
    .replace(/https?:\/\/\S+/g, '(URL)')
    .replace(/(?![0-9a-f]{64}\b)[A-Za-z0-9_-]{40,}/g, '(long word)')
    .replace(/[^ -~]/g, ' ')
}
