import type { EventKind } from '../domain/event.ts'
import { outcomeOf, type StageName, stageOpenedBy } from '../domain/stage.ts'
import type { Queries } from '../storage/database.ts'
import { listStages } from '../storage/sessions.ts'

/** How long stages take, from the events of sessions. */
export interface StageClock {
  /** Takes an event that was committed; never throws and never waits. */
  saw(event: { readonly kind: EventKind; readonly session: string; readonly at: Date }): void
  /** Resolves when what had to be looked up is. */
  settled(): Promise<void>
}

/** What the clock needs. */
export interface StageClockOptions {
  /** Where a session that began in another process, or before this one, is looked up. */
  readonly db: () => Queries | undefined
  readonly onStage: (stage: StageName, seconds: number) => void
  readonly onBoot: (seconds: number) => void
}

interface Known {
  readonly startedAt: number
  stage: StageName
  openedAt: number
}

/** Sessions that are kept in mind; one that was forgotten is looked up. */
const maxKnown = 20_000
/** Lookups at a time: when many sessions come from another replica at once, some durations are left out. */
const maxLookups = 50

/** Opens a clock. */
export function openStageClock({ db, onStage, onBoot }: StageClockOptions): StageClock {
  const sessions = new Map<string, Known>()
  const lookups = new Set<Promise<void>>()

  function move(known: Known, stage: StageName, at: number): void {
    if (known.stage === stage) return // an answer that ePoxy's client was given again
    onStage(known.stage, (at - known.openedAt) / 1000)
    if (stage === 'report') onBoot((at - known.startedAt) / 1000)
    known.stage = stage
    known.openedAt = at
  }

  /** The stage before, as the database has it: the new one is written by now. */
  async function lookUp(queries: Queries, session: string, stage: StageName, at: number): Promise<void> {
    const stages = (await listStages(queries, session)).filter((row) => row.stage !== stage)
    const [first] = stages
    const last = stages.at(-1)
    if (first === undefined || last === undefined) return
    const known = {
      startedAt: Date.parse(first.opened_at),
      stage: last.stage,
      openedAt: Date.parse(last.opened_at),
    }
    move(known, stage, at)
    if (stage !== 'report') keep(session, known)
  }

  function keep(session: string, known: Known): void {
    sessions.set(session, known)
    const [oldest] = sessions.keys()
    if (sessions.size > maxKnown && oldest !== undefined) sessions.delete(oldest)
  }

  return {
    saw({ kind, session, at: time }) {
      const stage = stageOpenedBy[kind]
      const at = time.getTime()
      const known = sessions.get(session)
      if (kind === 'session-opened') keep(session, { startedAt: at, stage: 'stage1', openedAt: at })
      else if (stage !== undefined && known !== undefined) move(known, stage, at)
      else if (stage !== undefined) {
        const queries = db()
        if (queries === undefined || lookups.size >= maxLookups) return
        const lookup: Promise<void> = lookUp(queries, session, stage, at)
          .catch(() => {}) // a duration less
          .finally(() => lookups.delete(lookup))
        lookups.add(lookup)
      }
      if (outcomeOf(kind) !== undefined) sessions.delete(session)
    },
    settled: async () => void (await Promise.all(lookups)),
  }
}
