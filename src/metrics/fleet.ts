import { type NodeState, nodeTransitions, type SessionState, sessionTransitions } from '../domain/state.ts'
import type { Queries } from '../storage/database.ts'
import { countLiveSessions, countWaiting, measureDeliveries, measureEvents } from '../storage/metrics.ts'
import { countLooping, countPaces } from '../storage/session-paces.ts'
import { countNodes } from '../storage/status.ts'
import { listWebhooks } from '../storage/webhooks.ts'
import { type Instruments, openInstruments } from './instruments.ts'
import type { CountedMetric } from './snapshot.ts'
import { fleetMetrics } from './table.ts'

type Metrics = Instruments<typeof fleetMetrics>

const nodeStates = Object.keys(nodeTransitions) as NodeState[] // the table's own keys
const liveStates = (Object.keys(sessionTransitions) as SessionState[]).filter(
  (state) => Object.keys(sessionTransitions[state]).length > 0,
)

/**
 * The numbers of the whole fleet, read now. Every state has its series, with 0 where nothing is in it. Where the database does
 * not answer there is one number, which says so: the scrape itself does not fail, or nobody would see why.
 */
export async function readFleet(db: Queries, now: Date): Promise<readonly CountedMetric[]> {
  const metrics = openInstruments(fleetMetrics)
  try {
    await readAll(metrics, db, now)
    metrics.gauge('pawl_database_up').set(1)
    return await metrics.registry.getMetricsAsJSON()
  } catch {
    return databaseDown()
  }
}

/** What is known where the database does not answer. */
export function databaseDown(): Promise<readonly CountedMetric[]> {
  const { gauge, registry } = openInstruments({ pawl_database_up: fleetMetrics.pawl_database_up })
  gauge('pawl_database_up').set(0)
  return registry.getMetricsAsJSON()
}

async function readAll(metrics: Metrics, db: Queries, now: Date): Promise<void> {
  await setNodes(metrics, db)
  await setSessions(metrics, db)
  const { slow, stuck } = await countPaces(db)
  metrics.gauge('pawl_sessions_slow').set(slow)
  metrics.gauge('pawl_sessions_stuck').set(stuck)
  metrics.gauge('pawl_nodes_looping').set(await countLooping(db))
  const waiting = await countWaiting(db, now)
  metrics.gauge('pawl_pending_machines').set(waiting.pending)
  metrics.gauge('pawl_proposals').set(waiting.proposals)
  for (const state of ['running', 'paused'])
    metrics.gauge('pawl_rollouts').set({ state }, waiting.rollouts[state] ?? 0)
  const events = await measureEvents(db)
  metrics.gauge('pawl_events').set(events.kept)
  metrics.gauge('pawl_event_last_id').set(events.last)
  metrics.gauge('pawl_checkpoint_timestamp_seconds').set(seconds(events.checkpointAt) ?? 0)
  await setWebhooks(metrics, db, events.last)
}

async function setNodes(metrics: Metrics, db: Queries): Promise<void> {
  const counts = await countNodes(db)
  const sum = (which: (row: (typeof counts)[number]) => boolean): number =>
    counts.filter(which).reduce((total, { count }) => total + count, 0)
  for (const state of nodeStates)
    metrics.gauge('pawl_nodes').set(
      { state },
      sum((row) => row.state === state),
    )
  for (const mark of ['marked', 'serving'])
    metrics.gauge('pawl_reinstall_marks').set(
      { mark },
      sum((row) => row.reinstall === mark),
    )
}

async function setSessions(metrics: Metrics, db: Queries): Promise<void> {
  const live = await countLiveSessions(db)
  for (const state of liveStates) {
    const row = live.find((one) => one.state === state)
    metrics.gauge('pawl_sessions').set({ state }, row?.count ?? 0)
    if (row === undefined) continue
    const start = seconds(row.oldestStart) ?? 0
    const seen = seconds(row.oldestSeen) ?? 0
    metrics.gauge('pawl_session_oldest_start_timestamp_seconds').set({ state }, start)
    metrics.gauge('pawl_session_oldest_seen_timestamp_seconds').set({ state }, seen)
  }
}

async function setWebhooks(metrics: Metrics, db: Queries, lastEvent: number): Promise<void> {
  const webhooks = await listWebhooks(db)
  const stateOf = (webhook: (typeof webhooks)[number]): string =>
    webhook.disabled !== null ? 'disabled' : webhook.failing_since !== null ? 'failing' : 'well'
  for (const state of ['well', 'failing', 'disabled'])
    metrics.gauge('pawl_webhooks').set({ state }, webhooks.filter((one) => stateOf(one) === state).length)
  const cursors = webhooks.filter(({ disabled }) => disabled === null).map(({ cursor }) => Number(cursor))
  const behind = cursors.length === 0 ? 0 : Math.max(0, lastEvent - Math.min(...cursors))
  metrics.gauge('pawl_event_lag').set(behind)
  const { waiting, dead, oldestWaiting } = await measureDeliveries(db)
  metrics.gauge('pawl_webhook_deliveries').set({ state: 'waiting' }, waiting)
  metrics.gauge('pawl_webhook_deliveries').set({ state: 'dead' }, dead)
  const oldest = seconds(oldestWaiting)
  if (oldest === undefined)
    metrics.registry.removeSingleMetric('pawl_webhook_oldest_waiting_timestamp_seconds')
  else metrics.gauge('pawl_webhook_oldest_waiting_timestamp_seconds').set(oldest)
}

/** A time of the database in seconds since 1970. */
export function seconds(time: string | null): number | undefined {
  return time === null ? undefined : Date.parse(time) / 1000
}
