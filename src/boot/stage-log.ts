import type { Logger } from 'pino'
import type { EventFacts, EventKind } from '../domain/event.ts'
import { outcomeOf, type StageName, stageOpenedBy } from '../domain/stage.ts'
import type { Queries } from '../storage/database.ts'
import { listStages } from '../storage/sessions.ts'
import type { BootMeter } from './meter.ts'

type Committed = Pick<EventFacts, 'kind' | 'node' | 'session' | 'at' | 'detail'>

/** Counts nothing. */
export const silentMeter: BootMeter = {
  committed() {},
  refused() {},
  issued() {},
  extension() {},
  sent() {},
  identified() {},
}

/** How a session ends in the stage that is open. */
const cut: ReadonlySet<EventKind> = new Set(['session-failed', 'session-expired', 'session-superseded'])

/** What was open before each, where all of a boot is native. */
const before: Readonly<Partial<Record<StageName, StageName>>> = {
  stage2: 'stage1',
  stage3: 'stage2',
  join: 'stage3',
  report: 'join',
}

/** Lookups at a time; beyond it a line lacks its stage and seconds. */
const maxLookups = 20
const maxKnown = 20_000

/**
 * One line of the server's log for each stage of each boot, when it is over: which session of which node, how it went, and how long it
 * took. Behind the commit, and never waited for. Where this process has seen the stage begin, nothing is asked of the database.
 */
export function loggingStages(meter: BootMeter, log: Pick<Logger, 'info' | 'warn'>, db: Queries): BootMeter {
  const known = new Map<string, { readonly stage: StageName; readonly at: number }>()
  let lookups = 0

  function say(event: Committed, stage: StageName | null, since: number | undefined): void {
    const { kind, node, session, at, detail } = event
    const isReady = stage === 'report' || kind === 'booted-local'
    const outcome = cut.has(kind) ? outcomeOf(kind) : isReady ? 'ready' : 'done'
    const seconds = since === undefined ? undefined : (at.getTime() - since) / 1000
    const level = outcome === 'failed' || outcome === 'expired' ? 'warn' : 'info'
    log[level](
      {
        session,
        node,
        stage,
        outcome,
        seconds,
        ...(cut.has(kind) ? { cause: detail.cause } : {}),
      },
      'stage',
    )
  }

  /** The stage that is over, and since when it was open, as the database has it. */
  async function lookUp(event: Committed, session: string, opened: StageName | undefined): Promise<void> {
    const last = (await listStages(db, session)).filter(({ stage }) => stage !== opened).at(-1)
    say(event, last?.stage ?? null, last === undefined ? undefined : Date.parse(last.opened_at))
  }

  function over(event: Committed, session: string, opened: StageName | undefined): void {
    const open = known.get(session)
    if (open !== undefined && open.stage === opened) return // ePoxy's client was given it again
    const expected = opened === undefined ? event.detail.stage : before[opened]
    if (open !== undefined && open.stage === expected) say(event, open.stage, open.at)
    else if (lookups >= maxLookups) say(event, null, undefined)
    else {
      lookups += 1
      lookUp(event, session, opened)
        .catch(() => say(event, null, undefined))
        .finally(() => {
          lookups -= 1
        })
    }
  }

  function saw(event: Committed): void {
    const { kind, session, at } = event
    if (session === null) return
    const opened = stageOpenedBy[kind]
    if (kind === 'booted-local') say(event, 'stage1', at.getTime())
    if (opened === undefined && !cut.has(kind)) return
    if (opened !== 'stage1') over(event, session, opened)
    if (opened === 'report') say(event, 'report', at.getTime())
    if (opened === undefined || opened === 'report') known.delete(session)
    else known.set(session, { stage: opened, at: at.getTime() })
    const [oldest] = known.keys()
    if (known.size > maxKnown && oldest !== undefined) known.delete(oldest)
  }

  return {
    ...meter,
    committed(event) {
      meter.committed(event)
      saw(event)
    },
  }
}
