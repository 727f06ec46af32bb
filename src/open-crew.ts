import type { Logger } from 'pino'
import type { BootContext } from './boot/context.ts'
import type { Transfers } from './boot/transfers.ts'
import type { Config, ListenAddress } from './config.ts'
import { openStory } from './fleet/open-story.ts'
import { type Listener, urlAt } from './listen.ts'
import type { OtherProcesses } from './metrics/page.ts'
import type { Snapshot } from './metrics/snapshot.ts'
import { type BootListeners, type BootListenersOptions, sidesNow, withPort } from './open-boot.ts'
import type { OpenRoots } from './open-roots.ts'
import { type Crew, openCrew, type WorkerProcess } from './workers/crew.ts'
import type { SideName, Sides } from './workers/messages.ts'

/** What a worker begins with: plain data, the settings of the keeper included. */
export interface WorkerSetup {
  readonly worker: number
  readonly config: Config
  readonly templatesFolder: string
  readonly publicUrl: string
  readonly rootCertificate: string
  readonly listen: { readonly [Name in SideName]?: ListenAddress }
  readonly sides: Sides
}

/** What a crew is opened with. */
export interface OpenCrewOptions extends BootListenersOptions {
  readonly log: Logger
  readonly templatesFolder: string
  readonly fork: (worker: number) => WorkerProcess
  readonly now: () => number
}

/** Boot listeners in workers, and the workers. */
export interface CrewListeners extends BootListeners {
  readonly crew: Crew
}

/** Boot listeners of workers. This process, their keeper, is the one that writes where the database is a file. */
export function openBootCrew(options: OpenCrewOptions): CrewListeners {
  const { config, context, roots, tickets } = options
  let addresses: WorkerSetup['listen'] = {}
  const stories = storiesOf(context, roots)
  const crew = openCrew<WorkerSetup>({
    count: config.workers,
    fork: options.fork,
    setup: (worker) => ({
      worker,
      config,
      templatesFolder: options.templatesFolder,
      publicUrl: context.settings.publicUrl,
      rootCertificate: context.rootCertificate(),
      listen: addresses,
      sides: sidesNow(roots, tickets),
    }),
    sides: () => sidesNow(roots, tickets),
    story: stories,
    refusals: context.refusals,
    log: options.log,
    now: options.now,
  })
  const secure = async (): Promise<void> => crew.tellSides()
  const listeners: Listener[] = [{ tls: () => roots.main.tls, secure, close: crew.close }]
  // Both end with the workers.
  if (roots.old !== undefined) listeners.push({ tls: () => roots.old?.tls, secure, close: async () => {} })
  return {
    crew,
    listeners,
    apps: [],
    async listen(known) {
      const main = await withPort(config.bootListen)
      const old = roots.old === undefined ? undefined : await withPort(roots.old.listen)
      addresses = { main, ...(old === undefined ? {} : { old }) }
      known(main.port)
      await crew.start()
    },
    urls: () => ({
      boot: urlAt(addresses.main ?? config.bootListen),
      ...(addresses.old === undefined ? {} : { oldBoot: urlAt(addresses.old) }),
    }),
  }
}

/** What the workers have counted, for metrics. */
export function countedBy(crew: Crew): OtherProcesses {
  const nameOf = (worker: number, restarts: number): string => `worker ${worker}, restart ${restarts}`
  return {
    async snapshots() {
      const all = await crew.measure()
      // A worker says what its own `ProcessMetrics` says.
      return all.map(({ worker, restarts, order, counts }) => ({
        process: nameOf(worker, restarts),
        ...{ order, snapshot: counts as Snapshot },
      }))
    },
    onEnd: (ended) => crew.onEnd((worker, restarts) => ended(nameOf(worker, restarts))),
  }
}

/** Cuts reach the workers too: the end of a session is told where it is committed. */
export function cuttingIn(crew: () => Crew | undefined, own: Transfers): Transfers {
  return {
    ...own,
    cut(session) {
      own.cut(session)
      crew()?.cut(session)
    },
  }
}

function storiesOf(
  context: BootContext,
  roots: OpenRoots,
): (side: SideName) => ReturnType<typeof openStory> | undefined {
  const main = openStory({ ...context, entry: roots.main.entry })
  const { old: oldSide } = roots
  const old = oldSide === undefined ? undefined : openStory({ ...context, entry: oldSide.entry })
  return (side) => (side === 'main' ? main : roots.old === undefined ? undefined : old)
}
