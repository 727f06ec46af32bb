/**
 * Whether the pages of a SQLite file hold what they should. A damaged one is to be found at the start, not in the middle of a boot;
 * but a million events take longer to look at than all else that a start does. So of a large file all tables but `events`, which no
 * boot reads, are looked at before the server serves, and those in a process of their own behind it: SQLite looks at a table in one go,
 * and a thread that is at it cannot be ended before, so that a server would not stop meanwhile.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type Sqlite from 'better-sqlite3'
import type { PawlError } from '../errors.ts'
import type { Looked } from './integrity-child.ts'

/** What the opening of a large file left out. */
export interface DeferredCheck {
  /** Looks at it, once; resolves to what is wrong. Rejects where it cannot be looked at, and not where that was stopped. */
  run(): Promise<PawlError | undefined>
  /** Ends a look that is under way, at once. */
  stop(): void
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

/** What SQLite says where nothing is wrong. */
const sound = 'ok'

function damageOf(answer: unknown): string | undefined {
  return answer === sound ? undefined : String(answer)
}

/** Looks at the events of a file, in a process that ends then. `explain` makes an error of what is wrong. */
export function checkEventsOf(file: string, explain: (damage: string) => PawlError): DeferredCheck {
  let found: PawlError | undefined
  let kill: (() => void) | undefined

  function look(): Promise<Looked> {
    return new Promise((resolve, reject) => {
      const child = fork(fileURLToPath(new URL('./integrity-child.ts', import.meta.url)), [file], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        execArgv: ['--disable-warning=ExperimentalWarning'],
      })
      kill = () => {
        resolve({ said: sound })
        child.kill('SIGKILL')
      }
      child.once('message', resolve)
      child.once('error', reject)
      child.once('exit', () => reject(new Error('the check of the events ended without a result')))
    })
  }

  return {
    damage: () => found,
    stop: () => kill?.(),
    async run() {
      const looked = await look()
      if ('code' in looked) throw Object.assign(new Error(looked.message), { code: looked.code })
      const damage = damageOf(looked.said)
      if (damage !== undefined) found = explain(damage)
      return found
    },
  }
}
