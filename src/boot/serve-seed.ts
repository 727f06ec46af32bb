import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import type { SessionState } from '../domain/state.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash } from '../domain/token.ts'
import { isPawlError } from '../errors.ts'
import type { SeedKind } from '../storage/seed-tables.ts'
import { lockSeed, putAsked, type SeedFound } from '../storage/seeds.ts'
import { touchSession } from '../storage/sessions.ts'
import { authenticateAgain } from './authenticate.ts'
import type { BootContext } from './context.ts'
import { isOverdue } from './end-session.ts'
import { renderSeed } from './join-seed.ts'
import { noteMove } from './open-token.ts'
import { readPinned } from './pin.ts'
import { notingUnreadable, readableJoin } from './readable-join.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/** A file of a seed as it is asked for. */
export interface SeedRequest extends Asking {
  readonly of: 'nocloud' | 'ignition'
  readonly token: string
  readonly file: string
}

/** cloud-init asks eleven times for a file that does not come, Ignition without end; more than that is nobody who lost an answer. */
const maxAsked = 16

/** While which state of the session each is good, and the stage that this is. */
const goodIn: Readonly<
  Record<SeedKind, { readonly state: SessionState; readonly stage: 'stage2' | 'join' }>
> = {
  'ignition-boot': { state: 'stage2', stage: 'stage2' },
  nocloud: { state: 'joining', stage: 'join' },
  ignition: { state: 'joining', stage: 'join' },
}

/** Serves one file of a seed, rendered with the node's values as they are now. */
export function serveSeed(context: BootContext, request: SeedRequest): Promise<string> {
  return recordingRefusals(context, request, () =>
    notingUnreadable(context, () =>
      inTransaction(context, async (work) => {
        const found = await openSeed(work, request)
        const text = await fileOf(work, found, request)
        await noteAsked(work, found, request)
        return text
      }),
    ),
  )
}

/** Finds out whose a token is and whether it may be asked now: real, this node's, of this kind, its stage not over. */
async function openSeed(work: Work, request: SeedRequest): Promise<SeedFound> {
  const presented = parseToken(request.token)
  if (presented === undefined) throw new Refusal('malformed-token')
  const found = await lockSeed(work.tx, presented.id)
  if (found === undefined) throw new Refusal('unknown-token')
  const { seed, session, node } = found
  if (node.name !== request.host) throw new Refusal('foreign-token', { detail: { givenTo: node.name } })
  const subject = { node: node.name, session: session.id }
  if (!hashesEqual(hashSecret(presented.secret), seed.secret_hash as SecretHash))
    throw new Refusal('wrong-token-secret', subject)
  if (seed.kind.split('-')[0] !== request.of)
    throw new Refusal('wrong-order', { ...subject, detail: { tokenOpens: seed.kind } })
  const fault = faultOf(work, found)
  if (fault !== undefined) throw new Refusal(fault, subject)
  const evidence = readPinned(session.pinned).evidence
  // Neither cloud-init nor Ignition can present a certificate: the redemption that gave them this URL did.
  const presentable = evidence.filter((kind) => kind !== 'certificate')
  await authenticateAgain(work.tx, node, presentable, 'join', { source: request.source, now: work.now })
  await noteMove(work, node, session, request.source)
  return found
}

function faultOf(work: Work, { seed, session }: SeedFound): RefusalCause | undefined {
  if (session.ended_at !== null) return 'session-ended'
  if (session.state !== goodIn[seed.kind].state) return 'retired-token'
  if (Date.parse(seed.expires_at) <= work.now.getTime()) return 'expired-token'
  return isOverdue(session, work.now, work.context.settings.sessionIdleSeconds)
    ? 'session-expired'
    : undefined
}

async function fileOf(work: Work, { node, session }: SeedFound, { file }: SeedRequest): Promise<string> {
  const pinned = readPinned(session.pinned)
  const join = await readableJoin(work, { node, session, pinned })
  const subject = { node: node.name, session: session.id }
  try {
    const { files } = renderSeed(work.context, { node, session, pinned: { ...pinned, join } })
    const text = Object.hasOwn(files, file) ? files[file] : undefined
    if (text === undefined)
      throw new Refusal('malformed', { ...subject, detail: { reason: 'a seed has no such file' } })
    return text
  } catch (error) {
    if (!isPawlError(error, 'render-failed')) throw error
    throw new Refusal('does-not-fit', { ...subject, detail: { reason: error.message } })
  }
}

/** The first time for each file is an event; a client that asks again lost the answer. */
async function noteAsked(
  work: Work,
  { seed, session, node }: SeedFound,
  request: SeedRequest,
): Promise<void> {
  const asked = JSON.parse(seed.asked) as Record<string, number> // our own row
  const before = asked[request.file] ?? 0
  if (before >= maxAsked) {
    throw new Refusal('asked-too-often', {
      ...{ node: node.name, session: session.id },
      detail: { file: request.file },
    })
  }
  await putAsked(work.tx, seed.id, { ...asked, [request.file]: before + 1 })
  await touchSession(work.tx, session.id, work.now)
  if (before > 0) return
  await work.event({
    kind: 'seed-served',
    node: node.name,
    session: session.id,
    actor: 'node',
    source: request.source,
    detail: { of: request.of, file: request.file, stage: goodIn[seed.kind].stage },
  })
}
