import pg from 'pg'
import { parsePostgresUrl } from '../domain/postgres-url.ts'
import { isPawlError, PawlError } from '../errors.ts'
import { lookingName } from './postgres-session.ts'

/**
 * Connections to the primary. A cluster of PostgreSQL has one server that takes writes; behind a failover that is another one, and the one
 * before may come back as if nothing had been. So each new connection asks what it has reached:
 *
 * 1. One that only takes reads is refused: it is a standby, or somebody has closed it to writes.
 * 2. Each promotion begins a new timeline. One whose timeline is older than what this process has seen of the same cluster is refused: it
 *    is a primary of before, and what is written to it is lost.
 * 3. One whose timeline is newer ends every connection to those of before: there is one past, not two.
 *
 * Where the URL names several hosts, all are asked, and the newest primary is taken until a connection to it fails.
 */
export interface Primary {
  /** pg's client; `connect` leads to the primary, or throws `storage-unavailable`. */
  readonly Client: typeof pg.Client
  /** What pg is given for the address; `connect` puts the right host in. */
  readonly url: string
}

/** What a server says of itself. */
interface Role {
  /** Why it is none to write to; undefined where it is one. */
  readonly closed?: string
  /** Of which cluster, and since how many promotions; undefined where nobody may know (some managed services). */
  readonly history?: History | undefined
}

interface History {
  readonly system: string
  readonly timeline: number
}

/** What of a client is used to ask. */
type Asked = Pick<pg.Client, 'query'>

/** A host that is gone without a word holds the others up so long, once behind each failover. */
const lookMilliseconds = 3000

/** Opens nothing yet. Throws `usage` for a URL that is none. */
export function findPrimary(url: string): Primary {
  const parsed = parsePostgresUrl(url)
  if (parsed === undefined) throw new PawlError('usage', 'the database is no postgres:// URL')
  const { hosts, shown } = parsed
  const past = openPast()
  let chosen: Promise<string> | undefined

  /** The host to connect to; one that was chosen before may be the wrong one by now. */
  function choose(): Promise<string> {
    chosen ??= hosts.length === 1 ? Promise.resolve(hosts[0]) : look(hosts, shown)
    return chosen
  }

  class PrimaryClient extends pg.Client {
    constructor(config?: string | pg.ClientConfig) {
      super(config)
      this.on('error', () => {}) // whoever uses it sees it in their query, or listens too
    }

    override connect(): Promise<pg.Client>
    override connect(callback: (error: Error | null, client?: pg.Client) => void): void
    override connect(
      callback?: (error: Error | null, client?: pg.Client) => void,
    ): Promise<pg.Client> | undefined {
      const done = this.#reach().then(() => this)
      if (callback === undefined) return done
      done.then(
        () => callback(null, this),
        (error: Error) => callback(error),
      )
    }

    async #reach(): Promise<void> {
      const host = choose()
      try {
        if (hosts.length > 1) moveTo(this, await host)
        await super.connect()
        const { closed, history } = await askRole(this)
        if (closed !== undefined) throw refused(shown, closed)
        if (history !== undefined) past.enter(this, history, shown)
      } catch (error) {
        if (chosen === host) chosen = undefined
        this.end().catch(() => {}) // it may not have begun
        throw isPawlError(error) ? error : unreached(shown, error)
      }
    }
  }
  return { Client: PrimaryClient, url: hosts[0] }
}

/** pg reads its address when it is made, where ours is known when it connects. */
function moveTo(client: pg.Client, url: string): void {
  const { host, port } = new pg.Client(url)
  Object.assign(client, { host, port })
  // It finds the password of a host in ~/.pgpass by these.
  Object.assign((client as unknown as { connectionParameters: object }).connectionParameters, { host, port })
}

/** Which of several hosts is the newest primary. Throws `storage-unavailable` with what each of them said. */
async function look(hosts: readonly string[], shown: string): Promise<string> {
  const answers = await Promise.all(hosts.map(askHost))
  const open = answers.filter(({ closed }) => closed === undefined)
  const systems = new Set(open.flatMap(({ history }) => history?.system ?? []))
  if (systems.size > 1) throw refused(shown, 'has hosts of different clusters')
  const [newest] = open.sort((a, b) => (b.history?.timeline ?? 0) - (a.history?.timeline ?? 0))
  if (newest !== undefined) return newest.url
  const why = answers.map(({ url, closed }) => `${new URL(url).host} ${closed}`).join(', ')
  throw refused(shown, `has no host that takes writes: ${why}`)
}

async function askHost(url: string): Promise<Role & { readonly url: string }> {
  const client = new pg.Client({
    connectionString: url,
    application_name: lookingName,
    connectionTimeoutMillis: lookMilliseconds,
    query_timeout: lookMilliseconds,
  })
  client.on('error', () => {}) // its questions are told
  try {
    await client.connect()
    return { url, ...(await askRole(client)) }
  } catch (error) {
    return { url, closed: `cannot be reached (${reasonOf(error)})` }
  } finally {
    await client.end().catch(() => {})
  }
}

const readsOnly = "select pg_is_in_recovery() as standby, current_setting('transaction_read_only') as only"
/** The file that is written now begins with the number of the timeline; what `pg_controldata` says is that of the last checkpoint. */
const whichPast =
  'select system_identifier::text as system, pg_walfile_name(pg_current_wal_lsn()) as file from pg_control_system()'

async function askRole(client: Asked): Promise<Role> {
  const { rows } = await client.query<{ standby: boolean; only: string }>(readsOnly)
  if (rows[0]?.standby === true) return { closed: 'is a standby: it only takes reads' }
  if (rows[0]?.only === 'on') return { closed: 'only takes reads (default_transaction_read_only)' }
  return { history: await askHistory(client) }
}

async function askHistory(client: Asked): Promise<History | undefined> {
  const answer = client.query<{ system: string; file: string }>(whichPast)
  const [row] = await answer.then(
    ({ rows }) => rows,
    (error: unknown) => {
      if (error instanceof pg.DatabaseError) return [] // who manages it lets nobody ask
      throw error
    },
  )
  return row && { system: row.system, timeline: Number.parseInt(row.file.slice(0, 8), 16) }
}

/** What this process knows of the past of its cluster, and who is connected to which. */
function openPast(): { enter(client: pg.Client, history: History, shown: string): void } {
  let known: History | undefined
  const connected = new Map<pg.Client, History>()
  return {
    enter(client, history, shown) {
      if (known?.system === history.system && history.timeline < known.timeline)
        throw new PawlError(
          'storage-unavailable',
          `database ${shown} is a primary of before: its timeline is ${history.timeline}, and ${known.timeline} was seen`,
          {
            hint: 'stop it, and make it a standby of the new primary (pg_rewind). If it was set back on purpose, restart every pawl server',
          },
        )
      known = history
      for (const [other, { system, timeline }] of connected)
        if (system !== history.system || timeline < history.timeline) cut(other)
      connected.set(client, history)
      client.once('end', () => connected.delete(client))
    },
  }
}

/** As if the server had ended it: who uses it is told so. */
function cut(client: pg.Client): void {
  const { stream } = client.connection as unknown as { stream: { destroy(error: Error): void } } // as pg's own pool does
  stream.destroy(new Error('Connection terminated: another server is the primary now'))
}

/** Also where its password or its database is not what it was: at a failover that is a fault of the new primary, not of a request. */
function unreached(shown: string, cause: unknown): PawlError {
  return new PawlError('storage-unavailable', `database ${shown} cannot be reached (${reasonOf(cause)})`, {
    hint: 'check that it runs, and who may connect to it',
    cause,
  })
}

function reasonOf(error: unknown): string {
  if (error instanceof pg.DatabaseError) return error.message
  const { code, message } = error as { code?: unknown; message?: unknown }
  return String(code ?? message)
}

function refused(shown: string, why: string): PawlError {
  return new PawlError('storage-unavailable', `database ${shown} ${why}`, {
    hint: 'name the primary, or all hosts of the cluster (postgres://a.example.com,b.example.com/pawl), and see that one of them takes writes',
  })
}
