import { addSeconds } from '../domain/clock.ts'
import { type Facts, macOf, parseFacts, uuidOf } from '../domain/facts.ts'
import { namedInOrder } from '../domain/locality.ts'
import { parseNodeName } from '../domain/node.ts'
import { handsOutCredentials, type Profile, type Sequence, type SequenceName } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import { advance, nodeTransitions } from '../domain/state.ts'
import { PawlError } from '../errors.ts'
import { isRuleApproved } from '../storage/auto-approvals.ts'
import { findRefusedFacts } from '../storage/facts.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import type { RefusedFactsRow } from '../storage/machine-tables.ts'
import { noteNodeRoot } from '../storage/node-roots.ts'
import { findNodeNames, lockNodeRow, updateNode } from '../storage/nodes.ts'
import { insertSession } from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import { authenticate, type Presented } from './authenticate.ts'
import { expireMark } from './campaign.ts'
import {
  checkFacts,
  factsToKeep,
  forgetRefusedFacts,
  keepRefusedFacts,
  noteChangedFacts,
} from './check-facts.ts'
import { machineOf, toldClaim } from './claim.ts'
import type { BootContext } from './context.ts'
import { withMark } from './end-session.ts'
import { type Pinned, pinBasics, pinChain, pinImages, type UsedSecret } from './pin.ts'
import { noteRolloutBoot } from './rollout-outcome.ts'
import { useSecret } from './rotate-secret.ts'
import {
  answerHeld,
  answerLocal,
  answerStage1,
  orDoesNotFit,
  type Stage1Answer,
  type Stage1Format,
} from './stage1-answer.ts'
import { holdBack } from './stage1-limit.ts'
import { noteAlternation, retireLiveSession } from './two-machines.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/** A request for stage 1. */
export interface Stage1Request extends Asking {
  /** Query or form fields: facts, and `secret`. */
  readonly fields: Readonly<Record<string, unknown>>
  readonly format: Stage1Format
}

/**
 * Stage 1: authenticate, open a session (retiring the one before), mint, render, record; one transaction. Throws a
 * Refusal, `invalid` for malformed facts, `too-many-boots`; undefined means that no node matches the facts of a
 * request without a host name, which is a matter for enrolment.
 */
export function serveStage1(context: BootContext, request: Stage1Request): Promise<Stage1Answer | undefined> {
  return recordingRefusals(context, request, async () => {
    const facts = readRequestFacts(request.fields)
    const name = request.host === undefined ? await selectByFacts(context, facts) : nameOf(request.host)
    if (name === undefined) return undefined
    const answer = await inTransaction(context, (work) => serve(work, request, name, facts)).catch((error) =>
      keepRefusedFacts(context, request, facts, error),
    )
    if (answer instanceof PawlError) throw answer
    // A client that takes JSON has no console to tell. Refused only now: that the node became held stays.
    if (answer.held === true && request.format === 'json') throw new Refusal('held', { node: name })
    return answer
  })
}

/** An error is thrown once the transaction is committed. */
async function serve(
  work: Work,
  request: Stage1Request,
  name: string,
  facts: Facts,
): Promise<Stage1Answer | PawlError> {
  const known = await lockNodeRow(work.tx, name)
  if (known === undefined) throw new Refusal('unknown-node')
  if (known.state === 'disabled') throw new Refusal('node-disabled', { node: name })
  let node = await expireMark(work, known)
  const profile = await orDoesNotFit(name, () => profileOf(work, known))
  const sequenceName: SequenceName = node.reinstall === 'none' ? 'boot' : 'reinstall'
  const required = profile.evidence[sequenceName]
  const presented = presentedBy(work, request, facts)
  const proven = await authenticate(work.tx, node, required, presented)
  if (!profile.evidence[sequenceName].includes('certificate')) await checkConfirmed(work, node, profile)
  await checkFacts(work, node, facts, profile.whenFactsChange, request.source)
  node = await retireLiveSession(work, node, facts, request.source)
  const later = node.state === 'held' ? undefined : await holdBack(work, node, request.source)
  if (later !== undefined) return later
  const secret = await useSecret(work, node, { profile, required, proven }, presented)
  node = secret.node
  await noteNodeRoot(
    work.tx,
    { node: node.id, root: work.context.entry.root, source: request.source },
    work.now,
  )
  if (node.state === 'held') return held(work, node, request)
  checkArmed(node, profile)
  await noteChangedFacts(work, node, facts, request.source)
  const refused = await findRefusedFacts(work.tx, node.id)
  await noteAlternation(work, node, { facts, source: request.source }, refused)
  const sequence = sequenceName === 'boot' ? profile.boot : profile.reinstall
  if (sequence === undefined)
    throw new Refusal('no-sequence', { node: name, detail: { sequence: sequenceName } })
  return open(work, request, node, { profile, sequenceName, sequence, facts, secret: secret.used, refused })
}

/** What a request proves itself with. The claim is told by site scripts without a secret only. */
function presentedBy({ now }: Work, request: Stage1Request, facts: Facts): Presented {
  const { fields, source, certificate } = request
  const hash = toldClaim(fields)
  return {
    source,
    certificate,
    now,
    facts,
    secret: typeof fields.secret === 'string' ? fields.secret : undefined,
    ...(hash === undefined || hash === 'none'
      ? {}
      : { claim: { hash, machine: machineOf(facts, source), now } }),
  }
}

interface Plan {
  readonly profile: Profile
  readonly sequenceName: SequenceName
  readonly sequence: Sequence
  readonly facts: Facts
  readonly secret: UsedSecret | undefined
  /** What the node was refused for last, if it was. */
  readonly refused: RefusedFactsRow | undefined
}

async function open(work: Work, request: Stage1Request, node: NodeRow, plan: Plan): Promise<Stage1Answer> {
  const { tx, now, context } = work
  const local = plan.sequence === 'local'
  const pinned: Pinned = {
    ...(await orDoesNotFit(node.name, () => pin(work, node, plan))),
    ...(plan.secret === undefined ? {} : { secret: plan.secret }),
    root: context.entry.root,
  }
  const session: SessionRow = {
    id: Buffer.from(namedInOrder(context.randomBytes(9), now)).toString('base64url'),
    node: node.id,
    sequence: plan.sequenceName,
    tokens: plan.profile.tokens,
    local: local ? 1 : 0,
    state: local ? 'ready' : 'stage1',
    stage: 'stage1',
    cause: null,
    pinned: JSON.stringify(pinned),
    facts: JSON.stringify(plan.facts),
    source: request.source,
    started_at: now.toISOString(),
    last_seen_at: now.toISOString(),
    expires_at: addSeconds(now, context.settings.sessionMaxSeconds).toISOString(),
    ended_at: local ? now.toISOString() : null,
  }
  await insertSession(tx, session)
  await noteRolloutBoot(work, session, pinned)
  await updateNode(tx, node.id, nodeAfter(node, session, plan))
  await forgetRefusedFacts(work, plan.refused)
  const answer = local
    ? answerLocal(work, node, plan.facts, request.format)
    : await answerStage1(work, { node, session, pinned, facts: plan.facts, format: request.format })
  await work.event({
    kind: local ? 'booted-local' : 'session-opened',
    node: node.name,
    session: session.id,
    actor: 'node',
    source: request.source,
    detail: {
      sequence: plan.sequenceName,
      profile: plan.profile.name,
      ...(pinned.images === undefined
        ? {}
        : {
            stage2: pinned.images.stage2.digest,
            stage3: pinned.images.stage3.digest,
            signedBy: { stage2: pinned.images.stage2.signedBy, stage3: pinned.images.stage3.signedBy },
            ...viaOf(pinned.images),
          }),
      ...(pinned.chain === undefined ? {} : { imagesVersion: pinned.chain.imagesVersion }),
      ...(local ? {} : { digestsCheckedByFirmware: answer.digestsChecked }),
      facts: plan.facts,
    },
  })
  return answer
}

/** Which version the node got through a channel, and why that one: decided now, for this session. */
function viaOf(images: NonNullable<Pinned['images']>): Record<string, unknown> {
  const moving = Object.entries(images).filter(([, image]) => image.via !== undefined)
  if (moving.length === 0) return {}
  return { via: Object.fromEntries(moving.map(([stage, { ref, via }]) => [stage, { image: ref, ...via }])) }
}

function pin(work: Work, node: NodeRow, plan: Plan): Promise<Pinned> {
  const { profile, sequence, sequenceName } = plan
  if (sequence === 'local') return Promise.resolve(pinBasics(profile, sequenceName))
  if ('chain' in sequence) return Promise.resolve(pinChain(profile, sequenceName, sequence))
  return pinImages(work, node, profile, sequenceName, sequence, plan.facts)
}

function nodeAfter(node: NodeRow, session: SessionRow, plan: Plan): Partial<NodeRow> {
  const event = session.local === 1 ? 'boot-local' : 'open-session'
  const marked = plan.sequenceName === 'reinstall' ? withMark(node, 'serve', session.id) : node
  return {
    state: advance(nodeTransitions, node.state, event, `node ${node.name}`),
    failure_cause: null,
    reinstall: marked.reinstall,
    reinstall_session: marked.reinstall_session,
    armed: 0,
    held_back_until: null,
    ...(session.local === 1 ? { looping_since: null } : {}),
    session: session.id,
    last_facts: JSON.stringify(factsToKeep(node, plan.facts)),
    updated_at: session.started_at,
  }
}

function readRequestFacts(fields: Readonly<Record<string, unknown>>): Facts {
  const result = parseFacts(fields)
  if ('bad' in result) throw new PawlError('invalid', `fact "${result.bad.name}" ${result.bad.reason}`)
  return result.facts
}

function nameOf(host: string): string {
  try {
    return parseNodeName(host)
  } catch {
    throw new Refusal('unknown-node')
  }
}

/** The node that the facts point at. More than one is refused; none is undefined. */
async function selectByFacts(context: BootContext, facts: Facts): Promise<string | undefined> {
  const names = await findNodeNames(context.storage.db, {
    mac: macOf(facts),
    uuid: uuidOf(facts),
    serial: facts.serial,
  })
  if (names.length > 1) throw new Refusal('facts-ambiguous', { detail: { nodes: names } })
  return names[0]
}

async function profileOf(work: Work, node: NodeRow): Promise<Profile> {
  const row = node.profile === null ? undefined : await findProfile(work.tx, node.profile)
  if (row === undefined) throw new Refusal('no-profile', { node: node.name })
  return readProfile(row)
}

/**
 * A machine that a rule approved told a serial number and proved nothing. Its profile handed out no credentials then, or said
 * that it may; it may have come to do so since. Where a certificate is required, an operator has issued it, and nothing is handed
 * out without it.
 */
async function checkConfirmed({ tx }: Work, node: NodeRow, profile: Profile): Promise<void> {
  if (!handsOutCredentials(profile) || profile.acceptAutoApproved === true) return
  if (await isRuleApproved(tx, node.id)) throw new Refusal('approved-by-rule', { node: node.name })
}

/** With `armed`, a node that is ready boots only after an operator said so: its own request proves no need. */
function checkArmed(node: NodeRow, profile: Profile): void {
  if (profile.armed && node.state === 'ready' && node.armed === 0)
    throw new Refusal('not-armed', { node: node.name })
}

/** A held node is told so, and asks again; nothing is opened. */
function held(work: Work, node: NodeRow, request: Stage1Request): Stage1Answer {
  work.context.refusals.record({
    kind: 'asked-while-held',
    cause: 'held',
    node: node.name,
    session: null,
    source: request.source,
    detail: { attempts: node.reinstall_attempts },
  })
  return answerHeld(work, node)
}
