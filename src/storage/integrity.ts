/**
 * Whether the pages of a SQLite file hold what they should. A damaged one is to be found at the start, not in the middle of a boot;
 * but a million events take longer to look at than all else that a start does. So of a large file all tables but `events`, which no
 * boot reads, are looked at before the server serves, and those in a thread of their own behind it.
 */
import { Worker } from 'node:worker_threads'
import type Sqlite from 'better-sqlite3'
import type { PawlError } from '../errors.ts'

/** What the opening of a large file left out. */
export interface DeferredCheck {
  /** Looks at it, once; resolves to what is wrong. Rejects where it cannot be looked at. */
  run(): Promise<PawlError | undefined>
  /** What `run` found. */
  readonly damage: () => PawlError | undefined
}

/** A file of this size is looked at in a tenth of a second. */
const largeBytes = 64 * 2 ** 20

/** Whether the events of a file are so many that they are looked at behind the start. */
export function isLarge(sqlite: Sqlite.Database): boolean {
  const pages = Number(sqlite.pragma('page_count', { simple: true }))
  return pages * Number(sqlite.pragma('page_size', { simple: true })) >= largeBytes
}

/** Looks at a whole file, or at all but its events; says what is wrong first. */
export function findDamage(sqlite: Sqlite.Database, withEvents: boolean): string | undefined {
  if (withEvents) return damageOf(sqlite.pragma('quick_check(1)', { simple: true }))
  const tables = sqlite
    .prepare("select name from sqlite_schema where type = 'table' and name <> 'events'")
    .pluck()
    .all() as string[] // what sqlite_schema says of its column
  for (const table of tables) {
    const damage = damageOf(sqlite.pragma(`quick_check("${table}")`, { simple: true }))
    if (damage !== undefined) return damage
  }
  return undefined
}

/** Looks at the events of a file, in a thread that ends then. `explain` makes an error of what is wrong. */
export function checkEventsOf(file: string, explain: (damage: string) => PawlError): DeferredCheck {
  let found: PawlError | undefined
  return {
    damage: () => found,
    async run() {
      const said = await inThread(file)
      if (said !== 'ok') found = explain(said)
      return found
    },
  }
}

function damageOf(answer: unknown): string | undefined {
  return answer === 'ok' ? undefined : String(answer)
}

function inThread(file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./integrity-thread.ts', import.meta.url), { workerData: file })
    worker.unref() // a server that stops does not wait for it
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', () => reject(new Error('the check of the events ended without a result')))
  })
}
