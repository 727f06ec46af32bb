import type { BootContext } from '../boot/context.ts'
import { inTransaction, type Work } from '../boot/work.ts'
import { addSeconds } from '../domain/clock.ts'
import { type Pace, paceOf, type StageLimits } from '../domain/pace.ts'
import { moves, type PaceCode, reasonOf } from '../domain/pace-reason.ts'
import { isTimed } from '../domain/usual-times.ts'
import type { Queries } from '../storage/database.ts'
import { lockNode } from '../storage/nodes.ts'
import type { SessionPaceRow } from '../storage/pace-tables.ts'
import {
  findSessionPace,
  listOpenStages,
  type OpenStageRow,
  putSessionPace,
} from '../storage/session-paces.ts'
import { findSession } from '../storage/sessions.ts'
import type { SessionRow } from '../storage/tables.ts'
import { type CommonEvidence, readCommonEvidence, readEvidence, type Watched } from './pace-evidence.ts'
import { type PaceLimits, readPaceLimits } from './pace-limits.ts'

/** How a boot that is under way comes along, and why it does not come along better. */
export interface PaceView {
  readonly state: Pace
  /** Since when it is so. */
  readonly since: string
  /** Stable, for scripts; null where it is as usual, as are the two below. */
  readonly code: PaceCode | null
  readonly reason: string | null
  /** What to look at. */
  readonly hint: string | null
}

const maxStages = 20_000
/** What is stuck and silent for longer is not looked at again: a fleet without power would be, all of it, every time. */
const quietSeconds = 120

/** Looks at one boot now. */
export async function paceNow(
  context: BootContext,
  watched: Watched,
  limits: PaceLimits,
  profile: string,
): Promise<PaceView | null> {
  const { db } = context.storage
  const { session } = watched
  if (session.ended_at !== null || !isTimed(session.stage)) return null
  const of = limits.of({ profile, sequence: session.sequence }, session.stage)
  const now = context.clock()
  if (secondsSince(watched.openedAt, now) <= of.slowAfterSeconds) return asUsual(watched.openedAt)
  const looked = await look(db, watched, await readCommonEvidence(db), of, { context, now })
  return looked?.view ?? null
}

function asUsual(since: string): PaceView {
  return { state: 'usual', since, code: null, reason: null, hint: null }
}

interface Looked {
  readonly view: PaceView
  readonly seconds: number
}

async function look(
  db: Queries,
  watched: Watched,
  common: CommonEvidence,
  of: StageLimits,
  { context, now }: { readonly context: BootContext; readonly now: Date },
): Promise<Looked | undefined> {
  const evidence = await readEvidence(db, watched, common, now)
  if (evidence === undefined) return undefined
  const state = paceOf({ ...evidence, moves: moves(evidence) }, of, context.settings)
  const { seconds } = evidence
  if (state === 'usual') return { view: asUsual(watched.openedAt), seconds }
  const { code, text: reason, hint } = reasonOf(evidence)
  const opened = new Date(watched.openedAt)
  const slow = addSeconds(opened, of.slowAfterSeconds)
  const stuck = addSeconds(opened, of.stuckAfterSeconds)
  const silent = addSeconds(new Date(watched.session.last_seen_at), context.settings.stuckSilenceSeconds)
  const first = silent < stuck ? silent : stuck
  const since = state === 'slow' || first < slow ? slow : first
  const named = hint.replaceAll('NAME', watched.node)
  return { view: { state, since: since.toISOString(), code, reason, hint: named }, seconds }
}

/**
 * Looks at every boot under way, and puts on record which are slow or stuck: one event when a stage becomes slow and one when it
 * is stuck, each once. Event and record are one transaction under the node's lock, so that neither is without the other, and of
 * two who look at a time the second finds it done. Returns how many it looked at.
 */
export async function tendPaces(context: BootContext): Promise<number> {
  const { db } = context.storage
  const now = context.clock()
  const limits = await readPaceLimits(db, context.settings)
  const open = await listOpenStages(db, addSeconds(now, -limits.leastSeconds), maxStages)
  let common: CommonEvidence | undefined
  for (const stage of open) {
    if (!isTimed(stage.stage)) continue
    const of = limits.of(stage, stage.stage)
    if (secondsSince(stage.openedAt, now) <= of.slowAfterSeconds && stage.mark === undefined) continue
    const isSilent = secondsSince(stage.lastSeenAt, now) > quietSeconds
    if (stage.mark?.pace === 'stuck' && isSilent) continue
    common ??= await readCommonEvidence(db)
    await new Promise((resolve) => setImmediate(resolve)) // boots go first: SQLite answers at once, and this would end no turn
    await tend(context, stage, of, common)
  }
  return open.length
}

async function tend(
  context: BootContext,
  stage: OpenStageRow,
  of: StageLimits,
  common: CommonEvidence,
): Promise<void> {
  const { db } = context.storage
  const session = await findSession(db, stage.session)
  if (session === undefined) return
  const looked = await look(db, { ...stage, session }, common, of, { context, now: context.clock() })
  if (looked === undefined || !isNews(stage.mark, looked.view)) return
  await inTransaction(context, async (work) => {
    if ((await lockNode(work.tx, context.storage.dialect, stage.node)) === undefined) return
    const current = await findSession(work.tx, stage.session)
    // It went on meanwhile.
    if (current === undefined || current.ended_at !== null || current.stage !== session.stage) return
    if (current.last_seen_at !== session.last_seen_at) return
    await record(work, current, stage.node, looked, of)
  })
}

function isNews(mark: SessionPaceRow | undefined, { state, code }: PaceView): boolean {
  return mark === undefined ? state !== 'usual' : mark.pace !== state || (code !== null && mark.code !== code)
}

async function record(
  work: Work,
  session: SessionRow,
  node: string,
  { view, seconds }: Looked,
  of: StageLimits,
): Promise<void> {
  const { stage } = session
  if (!isTimed(stage)) return
  const before = await findSessionPace(work.tx, session.id, stage)
  if (!isNews(before, view)) return
  const at = work.now.toISOString()
  const told = { slow: before?.slow_at ?? null, stuck: before?.stuck_at ?? null }
  const code = view.code ?? before?.code
  if (code === undefined) return
  // Who is found stuck at once is not told to be slow first, nor later when it moves again.
  const kind =
    view.state === 'stuck' && told.stuck === null
      ? 'boot-stuck'
      : view.state === 'slow' && told.slow === null && told.stuck === null
        ? 'boot-slow'
        : undefined
  await putSessionPace(work.tx, {
    ...{ session: session.id, stage, pace: view.state, code },
    slow_at: kind === 'boot-slow' ? at : told.slow,
    stuck_at: kind === 'boot-stuck' ? at : told.stuck,
  })
  if (kind === undefined) return
  await work.event({
    ...{ kind, node, session: session.id, actor: 'server', source: null },
    detail: {
      ...{ stage, seconds: Math.round(seconds), usualSeconds: of.usualSeconds },
      ...{ slowAfterSeconds: of.slowAfterSeconds, code, reason: view.reason, hint: view.hint },
    },
  })
}

function secondsSince(at: string, now: Date): number {
  return (now.getTime() - Date.parse(at)) / 1000
}
