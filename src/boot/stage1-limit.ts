import { addSeconds } from '../domain/clock.ts'
import { judgeLoop, type LoopJudgement, type LoopSettings, type PastBoot, pauses } from '../domain/loop.ts'
import { PawlError } from '../errors.ts'
import { updateNode } from '../storage/nodes.ts'
import { listBootsSince, type PastSession } from '../storage/sessions.ts'
import type { NodeRow } from '../storage/tables.ts'
import { repeatedCause } from './end-session.ts'
import type { Work } from './work.ts'

/** How far back boots are looked at. */
const day = 86_400

/** Of a node that came through: nothing holds it back. From when on its boots count stays as an operator said. */
export const notHeldBack = { looping_since: null, held_back_until: null } as const

/** A node that nothing holds back, and nobody ever did. */
export const notLooping = { ...notHeldBack, boots_counted_from: null } as const

/** A node whose boots count from now on: an operator has looked at it, and its next stage 1 is served at once. */
export function countAnew(now: Date): Pick<NodeRow, keyof typeof notLooping> {
  return { ...notLooping, boots_counted_from: now.toISOString() }
}

/**
 * Holds back a node that loops. Undefined: it is served. Else what it is answered, when the transaction is committed: that it
 * loops, and until when it waits, is on record then. Called once who asks is authenticated, and its session of before has ended.
 */
export async function holdBack(work: Work, node: NodeRow, source: string): Promise<PawlError | undefined> {
  const { tx, now, context } = work
  const since = addSeconds(now, -day).toISOString()
  const from =
    node.boots_counted_from !== null && node.boots_counted_from > since ? node.boots_counted_from : since
  const rows = await listBootsSince(tx, { node: node.id, since: from, limit: mostBoots(context.settings) })
  const boots = rows.map(pastBoot)
  const judged = judgeLoop(boots, { now, loopingSince: node.looping_since }, context.settings)
  if (judged.why === undefined) {
    if (node.looping_since !== null || node.held_back_until !== null)
      await updateNode(tx, node.id, notHeldBack)
    return undefined
  }
  // A lost answer is not a boot more: who is served instead of the one before does not wait again.
  const isRepeat = rows[0]?.ended_at === now.toISOString() && boots[0]?.repeated === true
  if (isRepeat && judged.why === 'no-report') return undefined
  const until = node.held_back_until
  if (until !== null && until <= now.toISOString()) return undefined
  const seconds = until === null ? judged.pauseSeconds : (Date.parse(until) - now.getTime()) / 1000
  await note(work, node, source, judged, Math.ceil(seconds))
  return comeLater(node, judged, Math.ceil(seconds))
}

/** How many boots say all there is to say: as many as the settings allow, with the pauses behind them, and those that were repeated. */
function mostBoots({ loopStage1s, maxStage1PerHour }: LoopSettings): number {
  return Math.max(50, maxStage1PerHour + pauses.length, 4 * (loopStage1s + pauses.length))
}

async function note(
  work: Work,
  node: NodeRow,
  source: string,
  { why, unreported, inHour }: LoopJudgement,
  seconds: number,
): Promise<void> {
  const { tx, now, context } = work
  const detail = { why, unreported, inHour, retryAfterSeconds: seconds }
  const subject = { node: node.name, session: null, source }
  if (node.looping_since === null)
    await work.event({ kind: 'node-looping', ...subject, actor: 'node', detail })
  await updateNode(tx, node.id, {
    looping_since: node.looping_since ?? now.toISOString(),
    held_back_until: node.held_back_until ?? addSeconds(now, seconds).toISOString(),
  })
  work.afterCommit(() =>
    context.refusals.record({ kind: 'too-many-boots', cause: 'too-many-boots', ...subject, detail }),
  )
}

function comeLater(node: NodeRow, { why, unreported, inHour }: LoopJudgement, seconds: number): PawlError {
  const message =
    why === 'no-report'
      ? `node ${node.name} asked for stage 1 ${unreported} times and reported nothing`
      : `node ${node.name} asked for stage 1 ${inHour} times in an hour`
  return new PawlError('too-many-boots', message, {
    hint: 'look at its timeline: it does not get through its boot',
    retryAfterSeconds: seconds,
  })
}

/** A boot from the local disk is over when it was served; an operator who ended one is no report of the node's. */
function pastBoot({ started_at: startedAt, state, cause }: PastSession): PastBoot {
  return { startedAt, reported: state === 'ready' || state === 'failed', repeated: cause === repeatedCause }
}
