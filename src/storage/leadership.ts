import { endOfVanished } from './postgres-session.ts'

/**
 * Which of the processes on one database does what must be done once. PostgreSQL gives an advisory lock to one session at a
 * time and takes it back when that session ends, however it ends: the leader is whose connection holds it. It has a
 * connection of its own, so that nothing else can keep it or let go of it. A connection that breaks, or does not answer in
 * time, ends the leadership at once; another process tries every two seconds and goes on within them.
 *
 * A leader whose machine stands still wakes up believing that it still leads, until its next look. So nothing that the leader
 * does may rest on this alone: each chore runs in transactions of its own that lock what they change, and finds nothing to
 * do where another was first. The lock saves work, and keeps two from sending the same thing.
 */
export interface Leadership {
  /** Whether this process leads now. */
  readonly leads: () => boolean
  /** Gives it up, so that another can take it, and tries no more. */
  resign(): Promise<void>
}

/** What of pg's Client is used here. */
export interface LeaderConnection {
  connect(): Promise<unknown>
  query(text: string): Promise<{ readonly rows: readonly Record<string, unknown>[] }>
  end(): Promise<void>
  on(event: 'error' | 'end', listener: () => void): unknown
}

/** Times in milliseconds. */
export interface LeadershipTimes {
  /** Between two tries, and between two looks whether the connection still answers. */
  readonly lookEvery: number
  readonly answerWithin: number
}

const usual: LeadershipTimes = { lookEvery: 2000, answerWithin: 5000 }

/** `pawl` and `lead` in ASCII: nobody else has it. The classes of the other advisory locks differ (commit-order.ts). */
const lock = `${0x7061776c}, ${0x6c656164}`
const keepAlive = `${endOfVanished}; set application_name = pawl_leader`

/** Where there is one process only: it leads. */
export const alone: Leadership = { leads: () => true, resign: async () => {} }

/** Stands for election, again and again, until it resigns. `changed` is told of each change. */
export function standForElection(
  open: () => LeaderConnection,
  changed: (leads: boolean) => void = () => {},
  { lookEvery, answerWithin }: LeadershipTimes = usual,
): Leadership {
  let leads = false
  let resigned = false
  let timer: NodeJS.Timeout | undefined
  let connection: LeaderConnection | undefined

  function become(value: boolean): void {
    if (leads === value) return
    leads = value
    changed(value)
  }

  /** Of a connection that was replaced already, nothing counts. */
  function lose(lost: LeaderConnection): void {
    if (connection !== lost) return
    connection = undefined
    become(false)
    lost.end().catch(() => {})
  }

  async function connect(): Promise<LeaderConnection> {
    const fresh = open()
    connection = fresh
    fresh.on('error', () => lose(fresh))
    fresh.on('end', () => lose(fresh))
    await fresh.connect()
    await fresh.query(keepAlive)
    return fresh
  }

  async function look(): Promise<void> {
    const own = connection ?? (await connect())
    if (leads) {
      await own.query('select 1')
      return
    }
    const { rows } = await own.query(`select pg_try_advisory_lock(${lock}) as got`)
    if (rows[0]?.got === true && connection === own && !resigned) become(true)
  }

  async function run(): Promise<void> {
    let late: NodeJS.Timeout | undefined
    const tooLate = new Promise<never>((_resolve, reject) => {
      late = setTimeout(() => reject(new Error('no answer in time')), answerWithin).unref()
    })
    await Promise.race([look(), tooLate]).catch(() => {
      if (connection !== undefined) lose(connection)
    })
    clearTimeout(late)
    if (!resigned) timer = setTimeout(() => void run(), lookEvery).unref()
  }

  void run()
  return {
    leads: () => leads,
    async resign() {
      resigned = true
      clearTimeout(timer)
      const last = connection
      connection = undefined
      become(false)
      const ended = last?.end().catch(() => {})
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1000).unref())])
    },
  }
}
