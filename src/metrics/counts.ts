import type { Server } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import type { BootMeter } from '../boot/meter.ts'
import { eventKinds } from '../domain/event.ts'
import type { JoinMeter } from '../domain/join-credential.ts'
import type { ProcessLoad } from '../domain/load.ts'
import type { CacheMeter, TftpMeter } from '../domain/meters.ts'
import { refusalCauses } from '../domain/refusal.ts'
import { outcomeOf, sessionOutcomes } from '../domain/stage.ts'
import { tokenKinds } from '../domain/token.ts'
import type { TraceCounts } from '../domain/trace.ts'
import { isPawlError } from '../errors.ts'
import { handshakeCauses } from '../handshake/diagnosis.ts'
import type { Queries, Storage } from '../storage/database.ts'
import { type Instruments, openInstruments } from './instruments.ts'
import { beginPartsAtZero, cacheInto, extensionsInto, joinsInto, tftpInto } from './part-counts.ts'
import { processMetrics } from './process-table.ts'
import type { Snapshot } from './snapshot.ts'
import { openStageClock } from './stage-clock.ts'
import { openTally } from './tally.ts'
import { openUsageMeter, type Usage } from './usage.ts'

/**
 * What one process counts. It is asked for by a scrape of its own listener, or by the keeper of several processes, which puts
 * their snapshots together (`merge.ts`); a snapshot is plain data.
 */
export interface ProcessMetrics {
  /** What the boot story tells. */
  readonly meter: BootMeter
  readonly tftp: TftpMeter
  readonly cache: CacheMeter
  readonly joins: JoinMeter
  /** The same database, its transactions timed. */
  timed(storage: Storage): Storage
  /** Counts a listener's requests, handshakes and connections; call it before the listener is ready. */
  watch(listener: 'boot' | 'old-boot' | 'operator', app: FastifyInstance): void
  /** Numbers that others keep; asked at each snapshot. */
  keep(gauges: KeptGauges): void
  snapshot(): Promise<Snapshot>
  /** Stops what measures. */
  close(): Promise<void>
}

/** What other parts of a process know of themselves. */
export interface KeptGauges {
  readonly transfers?: () => number
  readonly tftpTransfers?: () => number
  /** What the gate of the boot listeners has to do. */
  readonly load?: () => ProcessLoad
  readonly cacheBytes?: () => number
  readonly cacheLimitBytes?: number
  /** Refusals that were not written. */
  readonly dropped?: () => number
  /** What became of the traces of boots; left out where they are off. */
  readonly traces?: () => TraceCounts
}

type Metrics = Instruments<typeof processMetrics>

/** Names that have series of their own: more nodes than anybody has, fewer than would fill the memory. */
const maxMachines = 200_000

const redeems: Readonly<Record<string, string>> = {
  'handover-opened': 'handover',
  'stage2-redeemed': 'stage2',
  'stage3-redeemed': 'stage3',
  'join-redeemed': 'join',
  'session-ready': 'report',
}

/** Opens the counters of this process. */
export function openProcessMetrics(): ProcessMetrics {
  const metrics = openInstruments(processMetrics)
  beginAtZero(metrics)
  const machines = new Map<string, number>()
  const listeners = new Map<string, Server>()
  const tallies: (() => void)[] = []
  const usage = openUsageMeter()
  let kept: KeptGauges = {}
  let db: Queries | undefined
  const stages = openStageClock({
    db: () => db,
    onStage: (stage, seconds) => metrics.histogram('pawl_stage_duration_seconds').observe({ stage }, seconds),
    onBoot: (seconds) => metrics.histogram('pawl_boot_duration_seconds').observe(seconds),
  })

  return {
    meter: meterInto(metrics, stages.saw, (machine) => {
      if (machines.size < maxMachines || machines.has(machine))
        machines.set(machine, (machines.get(machine) ?? 0) + 1)
    }),
    tftp: tftpInto(metrics),
    cache: cacheInto(metrics),
    joins: joinsInto(metrics),
    timed: (storage) => {
      db = storage.db
      return timedInto(metrics, storage)
    },
    watch: (listener, app) => {
      listeners.set(listener, app.server)
      tallies.push(watchInto(metrics, listener, app))
    },
    keep: (gauges) => {
      kept = { ...kept, ...gauges }
    },
    snapshot: async () => {
      await stages.settled()
      for (const take of tallies) take()
      for (const [listener, server] of listeners)
        metrics.gauge('pawl_connections').set({ listener }, await connectionsOf(server))
      setKept(metrics, kept)
      setUsage(metrics, usage.read())
      // The library's own objects: a copy, so that what is added later does not change what was asked for now.
      return { metrics: structuredClone(await metrics.registry.getMetricsAsJSON()), machines: [...machines] }
    },
    close: async () => {
      usage.close()
      await stages.settled()
    },
  }
}

/** A cause that has not occurred is a zero, not a gap: alerts on a rise see the first one. */
function beginAtZero(metrics: Metrics): void {
  for (const cause of Object.keys(refusalCauses)) metrics.counter('pawl_refusals_total').inc({ cause }, 0)
  for (const cause of Object.keys(handshakeCauses))
    metrics.counter('pawl_handshake_failures_total').inc({ cause }, 0)
  for (const kind of tokenKinds) metrics.counter('pawl_tokens_issued_total').inc({ kind }, 0)
  for (const kind of Object.values(redeems)) metrics.counter('pawl_tokens_redeemed_total').inc({ kind }, 0)
  for (const outcome of Object.values(sessionOutcomes))
    metrics.counter('pawl_sessions_ended_total').inc({ outcome }, 0)
  for (const code of ['storage-unavailable', 'disk-full', 'other'])
    metrics.counter('pawl_database_errors_total').inc({ code }, 0)
  for (const way of ['session', 'redirected']) metrics.counter('pawl_image_bytes_total').inc({ way }, 0)
  beginPartsAtZero(metrics)
}

function meterInto(
  metrics: Metrics,
  saw: ReturnType<typeof openStageClock>['saw'],
  booted: (machine: string) => void,
): BootMeter {
  const events = metrics.counter('pawl_events_total')
  return {
    committed: ({ kind, node, session, at }) => {
      events.inc({ kind })
      const redeemed = redeems[kind]
      const outcome = outcomeOf(kind)
      if (redeemed !== undefined) metrics.counter('pawl_tokens_redeemed_total').inc({ kind: redeemed })
      if (outcome !== undefined) metrics.counter('pawl_sessions_ended_total').inc({ outcome })
      if (kind === 'session-opened' || kind === 'booted-local') {
        metrics.counter('pawl_sessions_started_total').inc()
        if (node !== null) booted(node)
      }
      if (session !== null) saw({ kind, session, at })
    },
    refused: (kind, cause) => {
      if (kind === 'refused')
        metrics.counter('pawl_refusals_total').inc({ cause: within(refusalCauses, cause) })
      else if (kind === 'handshake-failed')
        metrics.counter('pawl_handshake_failures_total').inc({ cause: within(handshakeCauses, cause) })
      else metrics.counter('pawl_noted_total').inc({ kind: within(eventKinds, kind) })
    },
    issued: (kind) => metrics.counter('pawl_tokens_issued_total').inc({ kind }),
    extension: extensionsInto(metrics),
    sent: (way, bytes) => metrics.counter('pawl_image_bytes_total').inc({ way }, bytes),
    identified: () => metrics.counter('pawl_identity_documents_total').inc(),
  }
}

/** A label's value is one of its list, whatever a caller says. */
function within(list: object, name: string): string {
  return Object.hasOwn(list, name) ? name : 'other'
}

function timedInto(metrics: Metrics, storage: Storage): Storage {
  const durations = metrics.histogram('pawl_database_transaction_duration_seconds')
  return {
    ...storage,
    transaction: async (work) => {
      const end = durations.startTimer()
      try {
        const result = await storage.transaction(work)
        end({ outcome: 'committed' })
        return result
      } catch (error) {
        end({ outcome: 'rolled-back' })
        const code = errorCode(error)
        if (code !== undefined) metrics.counter('pawl_database_errors_total').inc({ code })
        throw error
      }
    },
  }
}

/** What was wrong with the database; undefined where the work itself said no. */
function errorCode(error: unknown): string | undefined {
  if (isPawlError(error, 'storage-unavailable') || isPawlError(error, 'disk-full')) return error.code
  return isPawlError(error) ? undefined : 'other'
}

/** Counts a listener; the answer takes what was counted into the instruments, which cost ten times as much. */
function watchInto(metrics: Metrics, listener: string, app: FastifyInstance): () => void {
  const durations = metrics.histogram('epoxy_request_duration_seconds')
  const requests = openTally(metrics.counter('pawl_http_requests_total'))
  const handshakes = openTally(metrics.counter('pawl_tls_handshakes_total'))
  app.addHook('onResponse', (request, reply, done) => {
    const code = String(reply.statusCode)
    const route = request.routeOptions.url ?? 'none'
    requests.count(`${code} ${route}`, () => ({ listener, route, code }))
    if (listener !== 'operator') durations.observe({ code }, reply.elapsedTime / 1000)
    done()
  })
  app.server.on('secureConnection', (socket: TLSSocket) => {
    const session = socket.isSessionReused() ? 'resumed' : 'new'
    handshakes.count(session, () => ({ listener, session }))
  })
  return () => {
    requests.take()
    handshakes.take()
  }
}

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve) =>
    server.getConnections((error, count) => resolve(error === null ? count : 0)),
  )
}

function setKept(
  metrics: Metrics,
  { load, transfers, tftpTransfers, cacheBytes, cacheLimitBytes, dropped, traces }: KeptGauges,
): void {
  if (load !== undefined) setLoad(metrics, load())
  if (transfers !== undefined) metrics.gauge('pawl_transfers').set(transfers())
  if (tftpTransfers !== undefined) metrics.gauge('pawl_tftp_transfers').set(tftpTransfers())
  if (cacheBytes !== undefined) metrics.gauge('pawl_artifact_cache_bytes').set(cacheBytes())
  if (cacheLimitBytes !== undefined) metrics.gauge('pawl_artifact_cache_limit_bytes').set(cacheLimitBytes)
  if (dropped !== undefined) replace(metrics, 'pawl_notes_dropped_total', dropped())
  if (traces !== undefined) setTraces(metrics, traces())
}

function setTraces(metrics: Metrics, { exported, dropped, waiting }: TraceCounts): void {
  replace(metrics, 'pawl_traces_exported_total', exported)
  replace(metrics, 'pawl_traces_dropped_total', dropped)
  metrics.gauge('pawl_traces_waiting').set(waiting)
}

function setUsage(metrics: Metrics, { cpuSeconds, residentBytes, heapUsedBytes, delays }: Usage): void {
  replace(metrics, 'process_cpu_seconds_total', cpuSeconds)
  metrics.gauge('process_resident_memory_bytes').set(residentBytes)
  metrics.gauge('nodejs_heap_used_bytes').set(heapUsedBytes)
  for (const [percentile, seconds] of Object.entries(delays))
    metrics.gauge('pawl_event_loop_delay_seconds').set({ percentile }, seconds)
}

function setLoad(metrics: Metrics, load: ProcessLoad): void {
  metrics.gauge('pawl_admission_working').set(load.working)
  metrics.gauge('pawl_admission_waiting').set(load.waiting)
  metrics.gauge('pawl_admission_longest_wait_seconds').set(load.longestWaitSeconds)
  metrics.gauge('pawl_admission_nodes_waiting').set(load.nodesWaiting)
  metrics.gauge('pawl_handshakes_running').set(load.handshakes)
  metrics.gauge('pawl_handshakes_waiting').set(load.handshakesWaiting)
  replace(metrics, 'pawl_admission_admitted_total', load.admitted)
  replace(metrics, 'pawl_admission_waited_total', load.waited)
  replace(metrics, 'pawl_admission_waited_seconds_total', load.waitedSeconds)
  const told = metrics.counter('pawl_admission_told_to_wait_total')
  told.reset()
  for (const [kind, count] of Object.entries(load.toldToWaitBy)) told.inc({ kind }, count)
  const closed = metrics.counter('pawl_connections_closed_total')
  closed.reset()
  for (const [limit, count] of Object.entries(load.closed)) closed.inc({ limit }, count)
}

/** A counter that somebody else counts. */
function replace(metrics: Metrics, name: Parameters<Metrics['counter']>[0], to: number): void {
  metrics.counter(name).reset()
  metrics.counter(name).inc(to)
}
