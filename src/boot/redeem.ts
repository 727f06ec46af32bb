import type { EventKind } from '../domain/event.ts'
import { Refusal } from '../domain/refusal.ts'
import { next, type SessionEvent, sessionTransitions } from '../domain/state.ts'
import { type IdempotencyKey, parseIdempotencyKey, type TokenKind } from '../domain/token.ts'
import { updateNode } from '../storage/nodes.ts'
import { removeClaim } from '../storage/pending.ts'
import { writeRedemption } from '../storage/redemption.ts'
import { touchSession } from '../storage/sessions.ts'
import type { BootContext } from './context.ts'
import { atEntryOf } from './entry.ts'
import { nextHandover } from './handover.ts'
import { described } from './image-answer.ts'
import { renderJoin } from './join-script.ts'
import { mint } from './mint.ts'
import { type OpenedToken, openToken } from './open-token.ts'
import { readFacts } from './pin.ts'
import { offerSecret } from './rotate-secret.ts'
import { openAnswer, sealAnswer } from './sealed-answer.ts'
import { signedManifest } from './signed-manifest.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/** The stages that an agent opens with a token of the native kind. */
export type RedeemedStage = 'stage2' | 'stage3' | 'join'

/** A redemption as it arrives. */
export interface Redemption extends Asking {
  readonly stage: RedeemedStage
  readonly token: string | undefined
  /** The `Idempotency-Key` header, not checked yet. */
  readonly key: string | undefined
}

interface Step {
  readonly event: SessionEvent
  readonly kind: EventKind
  /** What this stage's beginning retires: the downloads and the kept answer of the stage before. */
  readonly retires: readonly TokenKind[]
  readonly answer: (work: Work, opened: OpenedToken, source: string) => Promise<Record<string, unknown>>
}

/** The stages as a table: what each does to the session, and what it answers. */
const steps: Readonly<Record<RedeemedStage, Step>> = {
  stage2: {
    event: 'redeem-stage2',
    kind: 'stage2-redeemed',
    retires: ['handover', 'download-stage2'],
    answer: answerStage2,
  },
  stage3: {
    event: 'redeem-stage3',
    kind: 'stage3-redeemed',
    retires: ['stage2', 'download-stage3'],
    answer: answerStage3,
  },
  join: { event: 'redeem-join', kind: 'join-redeemed', retires: ['stage3'], answer: answerJoin },
}

/**
 * Redeems a token: authenticate, consume, move the session on, mint, render, record; one transaction. The same token
 * under the same Idempotency-Key gets the same answer again until the next stage begins. Returns the JSON answer.
 */
export function redeem(context: BootContext, request: Redemption): Promise<string> {
  return recordingRefusals(context, request, () => inTransaction(context, (work) => redeemIn(work, request)))
}

async function redeemIn(work: Work, request: Redemption): Promise<string> {
  const opened = await openToken(work, request, request.token, { kind: request.stage })
  const key = request.key === undefined ? undefined : parseIdempotencyKey(request.key)
  if (opened.token.consumed_at !== null) return repeat(work, request, opened, key)
  const { session, node } = opened
  const step = steps[request.stage]
  const state = next(sessionTransitions, session.state, step.event)
  if (state === undefined)
    throw new Refusal('wrong-order', {
      node: node.name,
      session: session.id,
      detail: { state: session.state },
    })
  if (request.stage === 'stage2') await noteStarted(work, opened)
  const answer = JSON.stringify(await step.answer(atEntryOf(work, session), opened, request.source))
  const { id, secret } = opened.presented
  // What makes a token single-use; everything before it only says why not, and is undone where somebody else was first.
  const first = await writeRedemption(work.tx, {
    ...{ token: id, hash: opened.hash, session: session.id, now: work.now },
    answer: key === undefined ? null : sealAnswer(answer, secret, key, work.context.randomBytes),
    to: { state, stage: request.stage },
    retires: { kinds: step.retires },
    minted: work.minted.splice(0),
  })
  if (!first) throw new Refusal('spent-token', { node: node.name, session: session.id })
  await work.event({
    kind: step.kind,
    node: node.name,
    session: session.id,
    actor: 'node',
    source: request.source,
    detail: { repeatable: key !== undefined },
  })
  return answer
}

async function repeat(
  work: Work,
  request: Redemption,
  { token, presented, session, node }: OpenedToken,
  key: IdempotencyKey | undefined,
): Promise<string> {
  const subject = { node: node.name, session: session.id }
  if (key === undefined || token.answer === null) throw new Refusal('spent-token', subject)
  const answer = openAnswer(token.answer, presented.secret, key)
  if (answer === undefined) throw new Refusal('other-key', subject)
  await touchSession(work.tx, session.id, work.now)
  await work.event({
    kind: 'answer-repeated',
    node: node.name,
    session: session.id,
    actor: 'node',
    source: request.source,
    detail: { stage: request.stage },
  })
  return answer
}

/**
 * The minimal system runs. A reinstall counts as attempted from here on: what failed before it changed nothing on the node. A
 * claim is used up: it was in the memory of an iPXE that is gone.
 */
export async function noteStarted(work: Work, { node, session }: OpenedToken): Promise<void> {
  await removeClaim(work.tx, node.id)
  if (node.reinstall_session !== session.id) return
  await updateNode(work.tx, node.id, { reinstall_attempts: node.reinstall_attempts + 1 })
}

async function answerStage2(
  work: Work,
  { node, session, pinned }: OpenedToken,
): Promise<Record<string, unknown>> {
  const image = pinned.images?.stage3
  if (image === undefined) throw new Refusal('no-sequence', { node: node.name, session: session.id })
  const capability = mint(work, session, 'download-stage3')
  const subject = { node, session, facts: readFacts(session.facts) }
  return {
    stage: 'stage2',
    session: session.id,
    ...described(work, node.name, pinned, image),
    ...(await signedManifest(work.tx, node.name, image)),
    capability,
    handover: nextHandover(work, subject, pinned, image, capability),
  }
}

async function answerStage3(
  work: Work,
  opened: OpenedToken,
  source: string,
): Promise<Record<string, unknown>> {
  const { node, session, pinned } = opened
  const newSecret = await offerSecret(work, opened, source)
  const listeners = work.context.entries()
  return {
    stage: 'stage3',
    session: session.id,
    host: node.name,
    configuration: {
      sequence: session.sequence,
      profile: pinned.profile,
      image: pinned.images?.stage3.ref,
      labels: JSON.parse(node.labels) as unknown,
    },
    tokens: { join: mint(work, session, 'join') },
    ...(newSecret === undefined ? {} : { newSecret }),
    // While a root is rotated there are two, and the node keeps its users from both.
    ...(listeners.length < 2 ? {} : { bootListeners: listeners.map(({ publicUrl }) => publicUrl) }),
  }
}

async function answerJoin(
  work: Work,
  { node, session, pinned }: OpenedToken,
): Promise<Record<string, unknown>> {
  const join = pinned.join ?? { kind: 'none' as const }
  return {
    stage: 'join',
    session: session.id,
    kind: join.kind,
    script: renderJoin(
      work.context,
      { host: node.name, session: session.id, profile: pinned.profile, sequence: session.sequence },
      join,
    ),
  }
}
