import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { BootContext } from './boot/context.ts'
import type { BootEntry } from './boot/entry.ts'
import type { BootStory } from './boot/story.ts'
import { openTransfers, type Transfers } from './boot/transfers.ts'
import type { Clock } from './domain/clock.ts'
import { neededByMachines } from './domain/schema.ts'
import { openStory } from './fleet/open-story.ts'
import { buildBootListener } from './http/boot-listener.ts'
import type { ArtifactShelf } from './images/artifacts.ts'
import { closeWithin, listen } from './listen.ts'
import { createLog } from './log.ts'
import { openProcessMetrics, type ProcessMetrics } from './metrics/counts.ts'
import { openShelf } from './open-artifacts.ts'
import { secureSide, tlsOfMessage } from './open-boot.ts'
import { bootSettings, openContext } from './open-context.ts'
import type { WorkerSetup } from './open-crew.ts'
import { startHeart } from './open-limits.ts'
import { openServing } from './open-serving.ts'
import { isPostgresUrl, openAsItIs, type Storage } from './storage/database.ts'
import type { FromKeeper, FromWorker, SideName, Sides } from './workers/messages.ts'
import { packError } from './workers/packed-error.ts'
import { openAsker, remoteRefusals } from './workers/remote-story.ts'
import { openWire, type Pipe, type Wire } from './workers/wire.ts'

/** What a worker takes from its process. */
export interface WorkerOptions {
  readonly pipe: Pipe
  readonly clock: Clock
  /** Milliseconds, only forward. */
  readonly now: () => number
  /** Ends the process. */
  readonly exit: (code: number) => void
  /** Errors that nobody caught: the process must end. */
  readonly onFault: (listener: (error: unknown) => void) => void
}

const sideNames = ['main', 'old'] as const satisfies readonly SideName[]
const lastWordsMilliseconds = 2000

/** Runs a worker: waits for what its keeper tells, serves machines, and ends when it is told to, or when its keeper ends. */
export function runWorker({ pipe, clock, now, exit, onFault }: WorkerOptions): void {
  let running: Promise<Running> | undefined
  const wire: Wire<FromWorker> = openWire<FromWorker, FromKeeper<WorkerSetup>>(pipe, (message) => {
    if (asker.take(message)) return
    if (message.kind === 'ping') wire.send({ kind: 'pong' })
    else if (message.kind === 'measure') tellCounts(message.id)
    else if (message.kind === 'begin') running = begin(message.setup)
    // What is told before it runs is told to it when it does.
    else running?.then((one) => one.take(message)).catch(() => {})
  })
  const asker = openAsker(wire, now)

  function tellCounts(id: number): void {
    running
      ?.then((one) => one.counts())
      .then((counts) => wire.send({ kind: 'measured', id, counts }))
      .catch(() => {}) // one that cannot say it is left out
  }

  async function begin(setup: WorkerSetup): Promise<Running> {
    const log = createLog(setup.config.logLevel).child({ worker: setup.worker })
    onFault((error) => {
      log.fatal({ err: error }, 'a worker stops after an error')
      exit(1)
    })
    try {
      const parts = { wire, asker, clock, log, exit }
      const one = await open(setup, parts)
      await one.listen()
      wire.send({ kind: 'ready' })
      // Where the keeper tells the story, it is the one to check.
      if (isPostgresUrl(setup.config.database)) for (const piece of neededByMachines) piece()
      return one
    } catch (error) {
      wire.send({ kind: 'failed', error: packError(error) })
      log.error({ err: error }, 'a worker cannot begin')
      await wire.flushed()
      exit(1)
      throw error
    }
  }
}

interface Running {
  listen(): Promise<void>
  take(message: FromKeeper<WorkerSetup>): void
  /** What it has counted. */
  counts(): Promise<unknown>
}

interface WorkerParts {
  readonly wire: Wire<FromWorker>
  readonly asker: ReturnType<typeof openAsker>
  readonly clock: Clock
  readonly log: Logger
  readonly exit: (code: number) => void
}

async function open(setup: WorkerSetup, parts: WorkerParts): Promise<Running> {
  const { config } = setup
  const { log, wire, asker, exit } = parts
  let { sides } = setup
  const counts = openProcessMetrics()
  const shelf = await openShelf(config, log, parts.clock, counts.cache)
  const serving = openServing(config, log, shelf, counts.cache)
  const stories = openStories(setup, { shelf, sides: () => sides, counts }, parts)
  const heart = startHeart(serving.gate, { role: 'worker', clock: parts.clock, log }, (beat) =>
    stories.of('main').heartbeat(beat),
  )
  const apps = new Map<SideName, FastifyInstance>()
  for (const name of sideNames) {
    const side = sides[name]
    if (side !== undefined)
      apps.set(name, buildBootListener(stories.of(name), { ...serving.options, tls: tlsOfMessage(side.tls) }))
  }

  counts.keep({
    transfers: stories.transfers.count,
    load: serving.gate.load,
    cacheBytes: serving.cache.bytes,
    cacheLimitBytes: serving.cacheLimitBytes,
  })
  for (const [name, app] of apps) counts.watch(name === 'main' ? 'boot' : 'old-boot', app)

  /** Lets requests finish, says what is left to say, and ends. */
  async function drain(graceSeconds: number): Promise<void> {
    await Promise.all([...apps.values()].map((app) => closeWithin(app, graceSeconds)))
    await heart.stop()
    // The last bytes of a transfer are counted behind its end.
    const late = parts.clock().getTime() + lastWordsMilliseconds
    while (asker.waiting() + stories.transfers.count() > 0 && parts.clock().getTime() < late)
      await new Promise((resolve) => setTimeout(resolve, 10))
    await counts.close()
    await stories.close()
    await wire.flushed()
    exit(0)
  }

  function takeSides(told: Sides): void {
    sides = told
    for (const [name, app] of apps) {
      secureSide(app, sides, name)
      if (sides[name] === undefined)
        app.close().catch((error: unknown) => log.error({ err: error }, 'a listener did not close'))
    }
  }

  return {
    async listen() {
      for (const [name, app] of apps) {
        const address = setup.listen[name]
        if (address !== undefined) await listen(app, address)
      }
    },
    counts: () => counts.snapshot(),
    take(message) {
      if (message.kind === 'cut') stories.transfers.cut(message.session)
      else if (message.kind === 'sides') takeSides(message.sides)
      else if (message.kind === 'drain') {
        drain(message.graceSeconds).catch((error: unknown) => {
          log.error({ err: error }, 'a worker did not close')
          exit(1)
        })
      }
    },
  }
}

/** The stories of this worker's listeners, and what they hold. */
interface Stories {
  of(side: SideName): BootStory
  readonly transfers: Transfers
  close(): Promise<void>
}

/** What a story of this process is made of. */
interface StoryParts {
  readonly shelf: ArtifactShelf
  readonly sides: () => Sides
  readonly counts: ProcessMetrics
}

/** SQLite has one writer, the keeper: it is asked. PostgreSQL takes as many as there are: this process has its own. */
function openStories(setup: WorkerSetup, own: StoryParts, parts: WorkerParts): Stories {
  const { config } = setup
  const { asker, clock } = parts
  if (!isPostgresUrl(config.database)) {
    const transfers = openTransfers()
    return {
      of: (side) => asker.story(side, { transfers, clock }),
      transfers,
      close: async () => asker.close(),
    }
  }
  const storage = own.counts.timed(
    openAsItIs(config.database, { connections: config.databaseConnections, eventsLater: true }),
  )
  const context = ownContext(setup, storage, own, parts)
  return {
    of: (side) => openStory({ ...context, entry: liveEntry(own.sides, side) }),
    transfers: context.transfers,
    close: async () => {
      await context.joining?.settled()
      await context.spans?.flush()
      await storage.close()
    },
  }
}

function ownContext(
  setup: WorkerSetup,
  storage: Storage,
  { shelf, sides, counts }: StoryParts,
  { clock, log, wire }: WorkerParts,
): BootContext {
  const { config, templatesFolder } = setup
  const roots = {
    main: { entry: liveEntry(sides, 'main') },
    get old() {
      return sides().old === undefined ? undefined : { entry: liveEntry(sides, 'old') }
    },
    rootCertificate: () => setup.rootCertificate,
  }
  const settings = { ...bootSettings(config), publicUrl: setup.publicUrl }
  const context = openContext({ config, clock, log, templatesFolder }, storage, roots, {
    settings,
    artifacts: shelf,
    meter: counts.meter,
    joins: counts.joins,
  })
  return { ...context, refusals: remoteRefusals(wire) }
}

/** An entry as the keeper told it last; the main one where that one is gone. */
function liveEntry(sides: () => Sides, name: SideName): BootEntry {
  const now = (): BootEntry => {
    const found = sides()[name]?.entry ?? sides().main?.entry
    if (found === undefined) throw new Error('a worker without a listener') // the main one is always told
    return found
  }
  return {
    get publicUrl() {
      return now().publicUrl
    },
    get root() {
      return now().root
    },
    get ca() {
      return now().ca
    },
  }
}
