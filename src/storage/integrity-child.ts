/** The process of `checkEventsOf`: SQLite looks at a table in one go, and holds up whoever waits for it. */
import Sqlite from 'better-sqlite3'

/** What it tells: SQLite's answer, or why there is none. */
export type Looked = { readonly said: string } | { readonly code: string; readonly message: string }

// Its server may have ended meanwhile: then nobody is told.
process.send?.(look(String(process.argv[2])), () => process.disconnect?.())

function look(file: string): Looked {
  try {
    const sqlite = new Sqlite(file, { readonly: true })
    return { said: String(sqlite.pragma('quick_check("events")', { simple: true })) }
  } catch (error) {
    if (!(error instanceof Sqlite.SqliteError)) throw error
    const { code, message } = error
    // Some damage is an error of the statement, not its answer.
    return /^SQLITE_(CORRUPT|NOTADB)/.test(code) ? { said: message } : { code, message }
  }
}
