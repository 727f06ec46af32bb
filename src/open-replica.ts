import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import manifest from '../package.json' with { type: 'json' }
import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import { addSeconds } from './domain/clock.ts'
import { differingMarks, graveMarks, type Marks, readMarks } from './replica-marks.ts'
import type { Storage } from './storage/database.ts'
import {
  forgetOtherLeaders,
  listReplicas,
  removeReplica,
  removeReplicasBefore,
  writeReplica,
} from './storage/replicas.ts'

/** This server among those on its database. With SQLite it is the only one. */
export interface Replica {
  /** Whether it does now what must be done once. */
  readonly leads: () => boolean
  /** Whether it was told to stop: balancers are to send nobody any more. */
  readonly stopping: () => boolean
  /** Tells the others of itself, and looks whether they fit to it. */
  beat(): Promise<void>
  /** Makes room for another leader at once, and gives balancers the time to notice. */
  drain(): Promise<void>
  /** Takes itself out. */
  close(): Promise<void>
}

/** What it is opened with. */
export interface ReplicaOptions {
  readonly config: Config
  readonly storage: Storage
  readonly clock: Clock
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly hostName: string
  readonly processId: number
}

/** How often it tells. */
export const beatMilliseconds = 10_000
/** Who was not heard of for so long is gone. */
export const goneSeconds = 60
const forgottenSeconds = 86_400

/** Opens it, and stands for election. */
export function openReplica(options: ReplicaOptions): Replica {
  const { config, storage, clock, log, hostName, processId } = options
  const id = randomUUID()
  const startedAt = clock().toISOString()
  const several = storage.dialect === 'postgres'
  const leadership = storage.lead((leads) => {
    log.info({ leads }, leads ? 'this server leads: it does what is done once' : 'another server may lead')
    if (!stopping) beat().catch((error: unknown) => log.warn({ err: error }, 'it is told a little later'))
  })
  const told = new Set<string>()
  let stopping = false

  /** Once for each difference: the log of a server that runs for months is to be read. */
  function compare(own: Marks, host: string, other: Marks, version: string): void {
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

  async function beat(): Promise<void> {
    if (!several) return
    const now = clock()
    const marks = await readMarks(config)
    if (leadership.leads()) await forgetOtherLeaders(storage.db, id) // one that was killed could not say so
    const about = { id, host: hostName.slice(0, 253), pid: processId, version: manifest.version }
    await writeReplica(storage.db, {
      ...about,
      leads: leadership.leads() ? 1 : 0,
      started_at: startedAt,
      seen_at: now.toISOString(),
      marks: JSON.stringify(marks),
    })
    if (leadership.leads()) await removeReplicasBefore(storage.db, addSeconds(now, -forgottenSeconds))
    for (const row of await listReplicas(storage.db, addSeconds(now, -goneSeconds)))
      if (row.id !== id) compare(marks, row.host, JSON.parse(row.marks) as Marks, row.version)
  }

  return {
    leads: leadership.leads,
    stopping: () => stopping,
    beat,
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
      if (several) await removeReplica(storage.db, id).catch(() => {}) // the others see that it is gone
    },
  }
}
