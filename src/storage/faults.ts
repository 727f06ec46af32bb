import { isPawlError, PawlError } from '../errors.ts'

const sqliteFaults: Readonly<Record<string, (file: string, cause: unknown) => PawlError>> = {
  SQLITE_BUSY: (file, cause) =>
    unavailable(`database ${file} is locked by another process`, 'stop the other process', cause),
  SQLITE_LOCKED: (file, cause) => unavailable(`database ${file} is locked`, 'try again', cause),
  SQLITE_CORRUPT: corrupt,
  SQLITE_NOTADB: corrupt,
  SQLITE_CANTOPEN: (file, cause) =>
    unavailable(`database ${file} cannot be opened`, 'check that its folder exists and is ours', cause),
  SQLITE_READONLY: (file, cause) =>
    unavailable(`database ${file} is read-only`, 'check its owner and permissions', cause),
  SQLITE_IOERR: (file, cause) =>
    unavailable(`database ${file} cannot be read or written`, 'check the disk', cause),
  SQLITE_FULL: (file, cause) =>
    new PawlError('disk-full', `no room left for database ${file}`, {
      hint: 'free space on its disk; nothing was half-written',
      cause,
    }),
}

/** A driver's error as ours, where it says something about the database as a whole; others are passed on. */
export function explained(error: unknown, name: string): unknown {
  if (isPawlError(error)) {
    const under = error.cause === undefined ? undefined : explained(error.cause, name)
    return isPawlError(under) ? under : error
  }
  const code = (error as { code?: unknown } | null)?.code
  if (typeof code !== 'string') {
    const lost = howLost(error)
    return lost === undefined ? error : away(name, lost, error)
  }
  const known = Object.keys(sqliteFaults).find((fault) => code === fault || code.startsWith(`${fault}_`))
  if (known !== undefined) return sqliteFaults[known]?.(name, error)
  // PostgreSQL: class 08 connection, 53 resources, 57 intervention (PostgreSQL manual, appendix A); else errors of sockets and TLS, but
  // not what Node says of a wrong argument.
  if (/^(08|53|57)/.test(code) || /^E(?!RR_(INVALID|OUT_OF_RANGE|MISSING|UNKNOWN))[A-Z_]+$/.test(code))
    return away(name, code, error)
  return error
}

/** What pg says without a code, when its connection or the pool gives up; undefined where it says something else. */
function howLost(error: unknown): string | undefined {
  const said = error instanceof Error ? error.message : ''
  if (said.startsWith('timeout exceeded when trying to connect')) return 'no connection was free in time'
  const broke = /^(Connection terminated|Client (has encountered|was closed)|Query read timeout)/.test(said)
  return broke ? 'its connection broke' : undefined
}

/** A primary that became a standby takes no writes (25006): its connections are to be made anew, to the new primary. */
export function asDemoted(error: unknown, name: string): unknown {
  const code = (error as { code?: unknown } | null)?.code
  return code === '25006' ? away(name, 'it only takes reads: it is a standby now', error) : error
}

function away(name: string, why: string, cause: unknown): PawlError {
  return unavailable(
    `database ${name} does not answer (${why})`,
    'check that it runs and can be reached',
    cause,
  )
}

/** The database as a whole cannot be used now. */
export function unavailable(message: string, hint: string, cause?: unknown): PawlError {
  return new PawlError('storage-unavailable', message, { hint, cause })
}

/** SQLite's file does not hold what it should. */
export function corrupt(file: string, cause: unknown): PawlError {
  return unavailable(`database ${file} is damaged`, 'stop the server and restore the last backup', cause)
}
