/** The thread of `checkEventsOf`: SQLite looks at a table in one go, and holds up whoever waits for it. */
import { parentPort, workerData } from 'node:worker_threads'
import Sqlite from 'better-sqlite3'

const sqlite = new Sqlite(String(workerData), { readonly: true })
parentPort?.postMessage(answer())
sqlite.close()

function answer(): string {
  try {
    return String(sqlite.pragma('quick_check("events")', { simple: true }))
  } catch (error) {
    // Some damage is an error of the statement, not its answer.
    if (error instanceof Sqlite.SqliteError && /^SQLITE_(CORRUPT|NOTADB)/.test(error.code))
      return error.message
    throw error
  }
}
