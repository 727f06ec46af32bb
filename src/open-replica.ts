import type { Logger } from 'pino'
import manifest from '../package.json' with { type: 'json' }
import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import { addSeconds } from './domain/clock.ts'
import type { Heartbeat, ServerClaim } from './domain/load.ts'
import { goneSeconds } from './fleet/processes.ts'
import type { Gate } from './http/gate.ts'
import { type RunningHeart, startHeart } from './open-limits.ts'
import { differingMarks, graveMarks, type Marks, readMarks } from './replica-marks.ts'
import type { Storage } from './storage/database.ts'
import { forgetOtherLeaders, listServers } from './storage/processes.ts'

/** This server among those on its database. With SQLite it is the only one. */
export interface Replica {
  /** How it tells the others of itself. */
  readonly heart: RunningHeart
  /** Whether it does now what must be done once. */
  readonly leads: () => boolean
  /** Whether it was told to stop: balancers are to send nobody any more. */
  readonly stopping: () => boolean
  /** Looks whether the others fit to it. */
  compare(): Promise<void>
  /** Makes room for another leader at once, and gives balancers the time to notice. */
  drain(): Promise<void>
  /** Leads no more. */
  close(): Promise<void>
}

/** What it is opened with. */
export interface ReplicaOptions {
  readonly config: Config
  readonly storage: Storage
  readonly clock: Clock
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly hostName: string
  readonly gate: Gate
  /** Writes what it tells, and answers the sites of nodes. */
  readonly take: (beat: Heartbeat) => Promise<Readonly<Record<string, string>>>
}

/** How often it looks. */
export const compareMilliseconds = 10_000

/** Opens it, and stands for election. */
export function openReplica(options: ReplicaOptions): Replica {
  const { config, storage, clock, log, gate } = options
  const several = storage.dialect === 'postgres'
  const told = new Set<string>()
  let marks: Marks | undefined
  let stopping = false

  const leadership = storage.lead((leads) => {
    log.info({ leads }, leads ? 'this server leads: it does what is done once' : 'another server may lead')
    if (!stopping)
      tellLead(leads).catch((error: unknown) => log.warn({ err: error }, 'it is told a little later'))
  })

  const role = config.workers > 1 ? 'keeper' : 'server'
  const heart = startHeart(gate, { ...options, role, claim }, options.take)

  /** The first beat comes before the election. Files are read as often as they are compared. */
  async function claim(): Promise<ServerClaim> {
    if (several) marks ??= await readMarks(config)
    return { version: manifest.version, leads: leadership.leads(), marks: marks ?? null }
  }

  /** One that was killed could not say that it leads no more. */
  async function tellLead(leads: boolean): Promise<void> {
    if (leads) await forgetOtherLeaders(storage.db, heart.identity.id)
    await heart.beat()
  }

  return {
    heart,
    leads: leadership.leads,
    stopping: () => stopping,
    async compare() {
      if (!several) return
      const own = await readMarks(config)
      marks = own
      for (const { id, host, version, marks: other } of await listServers(
        storage.db,
        addSeconds(clock(), -goneSeconds),
      ))
        if (id !== heart.identity.id)
          tellDifferences({ log, told }, own, { host, version, marks: JSON.parse(other) as Marks })
    },
    async drain() {
      stopping = true
      await leadership.resign()
      if (config.drainSeconds === 0) return
      log.info({ seconds: config.drainSeconds }, 'serving on until balancers have noticed')
      await new Promise((resolve) => setTimeout(resolve, config.drainSeconds * 1000))
    },
    async close() {
      stopping = true
      await leadership.resign()
    },
  }
}

/** Another server, as it told of itself. */
interface OtherServer {
  readonly host: string
  readonly version: string
  readonly marks: Marks
}

/** Once for each difference: the log of a server that runs for months is to be read. */
function tellDifferences(
  { log, told }: Pick<ReplicaOptions, 'log'> & { readonly told: Set<string> },
  own: Marks,
  { host, version, marks: other }: OtherServer,
): void {
  for (const name of differingMarks(own, other)) {
    const key = `${host} ${name} ${own[name]} ${other[name]}`
    if (told.has(key)) continue
    told.add(key)
    const words = `the server on ${host} differs from this one: ${name}`
    if (graveMarks.has(name)) log.error({ host, name }, words)
    else log.warn({ host, name }, words)
  }
  if (version === manifest.version || told.has(`${host} ${version}`)) return
  told.add(`${host} ${version}`)
  log.warn({ host, version, own: manifest.version }, `the server on ${host} is of another version`)
}
