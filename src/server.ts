import { join, resolve } from 'node:path'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import manifest from '../package.json' with { type: 'json' }
import type { BootContext, BootSettings } from './boot/context.ts'
import { chores, startTimers } from './chores.ts'
import type { Config } from './config.ts'
import type { Heartbeat } from './domain/load.ts'
import { neededByMachines } from './domain/schema.ts'
import { takeHeartbeat } from './fleet/processes.ts'
import type { SignInSettings } from './fleet/sign-in-settings.ts'
import type { BootListenerOptions } from './http/boot-listener.ts'
import { neededByOperators } from './http/late-schemas.ts'
import type { SignIn } from './http/sign-in/options.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import type { ServedBinaries } from './ipxe/served.ts'
import { type Listener, listen, listenerOf, urlOf } from './listen.ts'
import { openProcessMetrics, type ProcessMetrics } from './metrics/counts.ts'
import { openArtifacts } from './open-artifacts.ts'
import {
  type BootListeners,
  type BootListenersOptions,
  openBootHere,
  openTickets,
  type Tickets,
} from './open-boot.ts'
import { bootSettings, type ContextOptions, openContext, type Writable } from './open-context.ts'
import { cuttingIn, openBootCrew } from './open-crew.ts'
import { openClientAuthorities, openOperator } from './open-operator.ts'
import { compareMilliseconds, openReplica, type Replica } from './open-replica.ts'
import { openRoots } from './open-roots.ts'
import { openServing } from './open-serving.ts'
import type { OpenTftp } from './open-tftp.ts'
import { type CheckpointSigner, openCheckpointSigner } from './pki/checkpoint-key.ts'
import { writeFileDurably } from './pki/key-file.ts'
import { openStorage, type Storage } from './storage/database.ts'
import type { TraceExporter } from './traces/exporter.ts'
import { openWebhookSender, type WebhookSender } from './webhooks/sender.ts'
import type { Crew } from './workers/crew.ts'
import { forking } from './workers/fork.ts'

/** What the server is started with, beside its settings. */
export interface ServerOptions extends ContextOptions {
  readonly hostName: string
  readonly processId: number
}

/** A server that serves. */
export interface RunningServer {
  /** The ready line's content (CONTRACT). */
  readonly ready: {
    event: 'ready'
    boot: string
    /** While a root is rotated: where the old one is served. */
    oldBoot?: string
    operator: string
    /** `HOST:PORT`, where TFTP is served. */
    tftp?: string
    ca: string
    publicUrl: string
  }
  /** Does now all that happens by itself in time: sessions run out, counted refusals are written, certificates are renewed. */
  maintain(): Promise<void>
  /** Stops accepting, lets what is under way finish within the grace, and closes the database. */
  close(): Promise<void>
}

/** Puts the parts together, by hand, and listens. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const opened = await openStorage(options.config.database, {
    connections: options.config.databaseConnections,
    eventsLater: true,
    onRetry: (retry) =>
      options.log.warn(
        retry,
        'the database schema is being brought up to date; another process was in the way',
      ),
  })
  const counts = openProcessMetrics()
  const storage = counts.timed(opened)
  try {
    return await serve(options, await assemble(options, storage, counts))
  } catch (error) {
    await storage.close().catch(() => {}) // the first error is the one to tell
    throw error
  }
}

/** The parts that run. */
interface Parts {
  readonly context: BootContext
  readonly counts: ProcessMetrics
  readonly signIn: SignInSettings | undefined
  readonly checkpoints: CheckpointSigner
  readonly audit: Config
  readonly settings: Writable<BootSettings>
  readonly artifacts: ArtifactStore
  readonly webhooks: WebhookSender
  readonly traces: TraceExporter | undefined
  readonly listeners: readonly Listener[]
  readonly ipxe: ServedBinaries
  readonly followCutOver: () => Promise<boolean>
  readonly boot: BootListeners
  readonly tickets: Tickets
  readonly operator: FastifyInstance
  readonly replica: Replica
}

async function assemble(options: ServerOptions, storage: Storage, counts: ProcessMetrics): Promise<Parts> {
  const { config, clock, log } = options
  const authorities = await openClientAuthorities(config.dataDir, clock())
  const settings = bootSettings(config)
  const roots = await openRoots({ ...options, settings, clientCas: authorities.certificates })
  const artifacts = await openArtifacts(config, log, clock, counts.cache)
  await artifacts
    .tidy(clock())
    .catch((error: unknown) => log.warn({ err: error }, 'old uploads stay for now'))
  let crew: Crew | undefined
  const own = openContext(options, storage, roots, {
    settings,
    artifacts,
    meter: counts.meter,
    joins: counts.joins,
  })
  const context = { ...own, transfers: cuttingIn(() => crew, own.transfers) }
  const opened = openServing(config, log, artifacts, counts.cache)
  const { cache, cacheLimitBytes, ipxe, gate } = opened
  const tickets = await openTickets(context)
  const { boot, crew: workers } = openBoot(options, { config, context, roots, tickets }, opened.options)
  crew = workers
  const checkpoints = openCheckpointSigner(config.dataDir)
  const signIn = await openWhereSet.signIn(options)
  const take = (beat: Heartbeat) => takeHeartbeat(context, beat)
  const replica = openReplica({ ...options, storage, gate, take })
  const operator = openOperator(options, {
    ...{ context, counts, roots, authorities, artifacts, ipxe, signIn, checkpoints, replica, crew },
  })
  counts.keep({ transfers: context.transfers.count, dropped: context.refusals.dropped, load: gate.load })
  counts.keep({ cacheBytes: cache.bytes, cacheLimitBytes })
  const traces = await openWhereSet.traces(context, options)
  if (traces !== undefined) counts.keep({ traces: traces.counts })
  for (const { name, app } of boot.apps) counts.watch(name, app)
  counts.watch('operator', operator)
  return {
    ...{ context, counts, checkpoints, settings, artifacts, ipxe, boot, tickets, operator, replica },
    signIn: signIn?.settings,
    audit: config,
    webhooks: openWebhookSender(context, { log }),
    traces,
    listeners: [...boot.listeners, listenerOf(operator, () => roots.operatorTls)],
    followCutOver: roots.follow,
  }
}

/** Parts that most installations do not have: nothing of them is loaded where the settings do not name them. */
const openWhereSet = {
  async signIn({ config, clock }: ServerOptions): Promise<SignIn | undefined> {
    if (config.oidcIssuer === undefined) return undefined
    return (await import('./open-sign-in.ts')).openSignIn(config, clock)
  },
  async traces(context: BootContext, options: ServerOptions): Promise<TraceExporter | undefined> {
    if (options.config.otlpEndpoint === undefined) return undefined
    return (await import('./open-traces.ts')).openTraces(context, options)
  },
  async tftp(options: ServerOptions & Parts): Promise<OpenTftp | undefined> {
    if (options.config.tftpListen === 'off') return undefined
    return (await import('./open-tftp.ts')).openTftp(options)
  },
}

/** The boot listeners: in this process, or in workers. */
function openBoot(
  options: ServerOptions,
  parts: BootListenersOptions,
  serving: Omit<BootListenerOptions, 'tls'>,
): { readonly boot: BootListeners; readonly crew: Crew | undefined } {
  if (options.config.workers <= 1) return { boot: openBootHere(parts, serving), crew: undefined }
  const now = (): number => performance.now()
  const fork = forking(join(import.meta.dirname, 'main.ts'))
  const boot = openBootCrew({ ...parts, ...options, fork, now })
  return { boot, crew: boot.crew }
}

async function serve(options: ServerOptions, parts: Parts): Promise<RunningServer> {
  const { config, log } = options
  const { boot, operator, replica, settings } = parts
  let tftp: OpenTftp | undefined
  const byItself = [
    ...chores(parts, log),
    { what: 'reading iPXE for TFTP', everyMilliseconds: 10_000, work: async () => tftp?.refresh() },
    {
      what: 'comparing with the other servers',
      everyMilliseconds: compareMilliseconds,
      work: replica.compare,
    },
  ]
  const stopTimers = startTimers(byItself, log, replica.leads)
  const close = (): Promise<void> => closeAll(parts, stopTimers, config.shutdownGraceSeconds, tftp)
  try {
    await boot.listen((port) => {
      if (config.publicUrl === undefined) settings.publicUrl = `https://${options.hostName}:${port}`
    })
    await listen(operator, config.operatorListen)
    tftp = await openWhereSet.tftp({ ...options, ...parts })
    await replica.heart.beat()
  } catch (error) {
    await close()
    throw error
  }
  const maintain = async (): Promise<void> => {
    for (const { work } of byItself) await work()
  }
  const ready = announce(options, settings, { ...parts, tftp })
  void getReadyForMore(log)
  void lookAtRest(parts.context.storage, log)
  return { ready, maintain, close: () => replica.drain().then(close) }
}

/**
 * Loads what the first requests need and no start has to wait for; between two pieces those that have come are served. Machines that waited
 * for the server come first. A request that comes sooner loads what it needs itself.
 */
async function getReadyForMore(log: ServerOptions['log']): Promise<void> {
  try {
    for (const piece of neededByMachines) {
      await nextTurn()
      piece()
    }
    for (const piece of neededByOperators) {
      await pause(500, undefined, { ref: false })
      piece()
    }
  } catch (error) {
    log.error({ err: error }, 'what checks requests could not be loaded')
  }
}

/** Looks at what a start has no time for; what is wrong is in the log, and `/readyz` says no from then on. */
async function lookAtRest({ rest }: Storage, log: ServerOptions['log']): Promise<void> {
  try {
    const damage = await rest?.run()
    if (damage !== undefined) log.error({ err: damage }, 'the database is damaged')
  } catch (error) {
    log.error({ err: error }, 'the events in the database could not be looked at')
  }
}

/** Tells where it listens: the client commands on this data folder by a file, everyone else by the ready line. */
function announce(
  { config, processId }: ServerOptions,
  settings: BootSettings,
  { boot, operator, tftp }: Parts & { readonly tftp: OpenTftp | undefined },
): RunningServer['ready'] {
  const urls = {
    ...boot.urls(),
    operator: urlOf(operator, config.operatorListen),
    ...(tftp === undefined ? {} : { tftp: tftp.address }),
  }
  const { operatorCaFile } = config
  const own = operatorCaFile === undefined ? {} : { operatorCa: resolve(operatorCaFile) }
  const ca = operatorCaFile ?? join(config.dataDir, 'ca.crt')
  writeFileDurably(
    join(config.dataDir, 'server.json'),
    `${JSON.stringify({ ...urls, ...own, pid: processId, version: manifest.version })}\n`,
    0o600,
  )
  return { event: 'ready', ...urls, ca, publicUrl: settings.publicUrl }
}

/** Milliseconds. */
const choresMayTake = 2000

async function closeAll(
  { listeners, context, counts, replica, traces, webhooks }: Parts,
  stopTimers: () => Promise<void>,
  graceSeconds: number,
  tftp: OpenTftp | undefined,
): Promise<void> {
  const rested = stopTimers()
  const closing = listeners.map((listener) => listener.close(graceSeconds))
  await Promise.all([...closing, webhooks.close(), traces?.close(), tftp?.close()])
  await replica.heart.stop()
  await context.joining?.settled()
  // Where a cluster or a store does not answer, a chore is not waited for: each can be cut anywhere.
  let late: NodeJS.Timeout | undefined
  const tooLong = new Promise((resolve) => {
    late = setTimeout(resolve, choresMayTake)
  })
  await Promise.race([rested, tooLong])
  clearTimeout(late)
  await context.refusals.flush()
  await context.spans?.flush()
  await counts.close()
  await replica.close()
  await context.storage.close()
}
