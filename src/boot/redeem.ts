import type { EventKind } from '../domain/event.ts'
import { credentialOf } from '../domain/join.ts'
import { Refusal } from '../domain/refusal.ts'
import { next, type SessionEvent, sessionTransitions } from '../domain/state.ts'
import { type IdempotencyKey, parseIdempotencyKey, type TokenKind } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import { updateNode } from '../storage/nodes.ts'
import { removeClaim } from '../storage/pending.ts'
import { writeRedemption } from '../storage/redemption.ts'
import { touchSession } from '../storage/sessions.ts'
import type { BootContext } from './context.ts'
import { atEntryOf } from './entry.ts'
import { nextHandover } from './handover.ts'
import { described } from './image-answer.ts'
import {
  type MadeCredential,
  madeJoin,
  PlannedCredential,
  planCredential,
  releaseCredential,
  takeCredential,
} from './join-credential.ts'
import {
  type AnsweredQuestion,
  askQuestion,
  noteAnswered,
  PlannedQuestion,
  planQuestion,
} from './join-extension.ts'
import { checkJoin, renderFitting } from './join-script.ts'
import { mintJoinSeed, withIgnitionUrl } from './join-seed.ts'
import { makeCredential } from './make-credential.ts'
import { mint } from './mint.ts'
import { type OpenedToken, openToken } from './open-token.ts'
import { readFacts } from './pin.ts'
import { notingUnreadable, readableJoin } from './readable-join.ts'
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
  readonly answer: (
    work: Work,
    opened: OpenedToken,
    from: Got & { readonly source: string },
  ) => Promise<Record<string, unknown> | PlannedCredential | PlannedQuestion>
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
  return recordingRefusals(context, request, async () => {
    return notingUnreadable(context, async () => {
      const answer = await inTransaction(context, (work) => redeemIn(work, request))
      if (answer instanceof PlannedQuestion) return redeemAnswered(context, request, answer)
      return answer instanceof PlannedCredential ? redeemBehind(context, request, answer) : answer
    })
  })
}

/** A credential is made for this boot first, at a cluster that takes its time: no transaction waits for it. */
async function redeemBehind(
  context: BootContext,
  request: Redemption,
  planned: PlannedCredential,
): Promise<string> {
  const made = await makeCredential(context, planned)
  try {
    const answer = await inTransaction(context, (work) => redeemIn(work, request, { made }))
    if (typeof answer === 'string') return answer
    throw new PawlError('internal', 'a credential was made and not taken')
  } catch (error) {
    await releaseCredential(context, made)
    throw error
  }
}

/** An extension is asked first what the join is, and takes its time. */
async function redeemAnswered(
  context: BootContext,
  request: Redemption,
  planned: PlannedQuestion,
): Promise<string> {
  const told = await askQuestion(context, planned, request.source)
  const answer = await inTransaction(context, (work) => redeemIn(work, request, { told }))
  if (typeof answer === 'string') return answer
  throw new PawlError('internal', 'an extension answered, and its answer was not taken')
}

/** What was got for a redemption, outside of its transaction. */
interface Got {
  readonly made?: MadeCredential | undefined
  readonly told?: AnsweredQuestion | undefined
}

async function redeemIn(
  work: Work,
  request: Redemption,
  got: Got = {},
): Promise<string | PlannedCredential | PlannedQuestion> {
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
  const { source } = request
  const answered = await step.answer(atEntryOf(work, session), opened, { source, ...got })
  if (answered instanceof PlannedCredential || answered instanceof PlannedQuestion) {
    // Who waits for a cluster or a service is alive, however long that does not answer.
    await touchSession(work.tx, session.id, work.now)
    return answered
  }
  const answer = JSON.stringify(answered)
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

async function answerStage2(work: Work, opened: OpenedToken): Promise<Record<string, unknown>> {
  const { node, session, pinned } = opened
  const image = pinned.images?.stage3
  if (image === undefined) throw new Refusal('no-sequence', { node: node.name, session: session.id })
  const capability = mint(work, session, 'download-stage3')
  const subject = { node, session, facts: readFacts(session.facts) }
  return {
    stage: 'stage2',
    session: session.id,
    ...described(work, node.name, pinned, image),
    args: await withIgnitionUrl(work, opened, image.arguments),
    ...(await signedManifest(work.tx, node.name, image)),
    capability,
    handover: nextHandover(work, subject, pinned, image, capability),
  }
}

async function answerStage3(
  work: Work,
  opened: OpenedToken,
  { source }: { readonly source: string },
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
    tokens: {
      join: mint(work, session, 'join'),
      ...(pinned.extensions === undefined ? {} : { extension: mint(work, session, 'extension') }),
    },
    ...(pinned.extensions === undefined ? {} : { extensions: pinned.extensions }),
    ...(pinned.identity === undefined ? {} : { identity: pinned.identity }),
    ...(newSecret === undefined ? {} : { newSecret }),
    // While a root is rotated there are two, and the node keeps its users from both.
    ...(listeners.length < 2 ? {} : { bootListeners: listeners.map(({ publicUrl }) => publicUrl) }),
  }
}

async function answerJoin(
  work: Work,
  opened: OpenedToken,
  { made, told, source }: Got & { readonly source: string },
): Promise<Record<string, unknown> | PlannedCredential | PlannedQuestion> {
  const { node, session, pinned } = opened
  const join = await readableJoin(work, opened)
  const of = {
    ...{ host: node.name, session: session.id, profile: pinned.profile, sequence: session.sequence },
    labels: JSON.parse(node.labels) as Record<string, string>, // our own row
  }
  checkJoin(of, join, session.id)
  const answer = { stage: 'join', session: session.id, kind: join.kind }
  if (join.kind === 'extension') {
    if (told === undefined) return planQuestion(work, opened, join, source)
    await noteAnswered(work, join.settings, { node: node.name, session: session.id, source }, told)
    return { ...answer, script: told.script ?? renderFitting(work.context, of, join, told.values) }
  }
  if (credentialOf(join) !== 'brokered') {
    const seed = await mintJoinSeed(work, { ...opened, pinned: { ...pinned, join } })
    return { ...answer, script: renderFitting(work.context, of, join, seed) }
  }
  if (made === undefined) return planCredential(work, opened, join)
  const credential = await takeCredential(work, opened, made)
  return { ...answer, script: renderFitting(work.context, of, madeJoin(join, made), credential) }
}
