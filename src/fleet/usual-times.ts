import type { BootContext } from '../boot/context.ts'
import { inTransaction, type Work } from '../boot/work.ts'
import { stormLabel } from '../domain/storm-label.ts'
import { isTimed, learn, type TimedStage, timedStages } from '../domain/usual-times.ts'
import { listEvents } from '../storage/events.ts'
import type { BootTimesRow, UsualTimeRow } from '../storage/pace-tables.ts'
import {
  type BootKind,
  type EndedBoot,
  findBootsRead,
  findLastSuccesses,
  forgetUsualTimes,
  insertBootTimes,
  lastBootTimes,
  listEndedBoots,
  putBootsRead,
  putUsualTimes,
} from '../storage/usual-times.ts'
import { readLabels } from './node-view.ts'

const atOnce = 500
/** A server that learns for the first time looks so many boots back. */
const firstLook = 5000

/**
 * Learns from boots that ended well since this was done last; only a report of success ends one well. Nodes of a storm teach
 * nothing, and images are tested on servers of their own. One transaction: what was looked at and what was learned are the same,
 * whoever is killed, and two leaders at a time learn the same. Returns how many boots it looked at.
 */
export function learnUsualTimes(context: BootContext): Promise<number> {
  return inTransaction(context, async (work) => {
    const { tx } = work
    const after = (await findBootsRead(tx)) ?? (await findLastSuccesses(tx, firstLook))
    const events = await listEvents(tx, { kind: 'session-ready', after, limit: atOnce })
    const last = events.at(-1)
    if (last === undefined) return 0
    const idOf = new Map(events.map(({ session, id }) => [session ?? '', Number(id)]))
    const boots = (await listEndedBoots(tx, [...idOf.keys()])).filter(
      ({ labels }) => readLabels(labels)[stormLabel] === undefined,
    )
    await insertBootTimes(
      tx,
      boots.map((boot) => timesOf(boot, idOf.get(boot.session) ?? 0)),
    )
    const kinds = new Map(
      boots.map(({ profile, sequence }) => [`${profile} ${sequence}`, { profile, sequence }]),
    )
    for (const kind of kinds.values()) await learnKind(work, kind)
    await forgetUsualTimes(tx)
    await putBootsRead(tx, Number(last.id))
    return events.length
  })
}

function timesOf({ session, profile, sequence, node, stages }: EndedBoot, event: number): BootTimesRow {
  const seconds: Record<TimedStage, number | null> = { stage1: null, stage2: null, stage3: null, join: null }
  for (const [index, { stage, opened_at: at }] of stages.entries()) {
    const next = stages[index + 1]
    if (next !== undefined && isTimed(stage))
      seconds[stage] = (Date.parse(next.opened_at) - Date.parse(at)) / 1000
  }
  return { session, profile, sequence, node, event, ...seconds }
}

async function learnKind({ tx, now }: Work, kind: BootKind): Promise<void> {
  const boots = await lastBootTimes(tx, kind)
  const rows = timedStages.flatMap((stage): UsualTimeRow[] => {
    const samples = boots.flatMap(({ node, [stage]: seconds }) =>
      seconds === null ? [] : [{ node, seconds: Number(seconds) }],
    )
    const usual = learn(samples)
    if (usual === undefined) return []
    const { medianSeconds: median_seconds, p99Seconds: p99_seconds } = usual
    return [
      { ...kind, stage, median_seconds, p99_seconds, boots: usual.boots, learned_at: now.toISOString() },
    ]
  })
  await putUsualTimes(tx, kind, rows)
}
