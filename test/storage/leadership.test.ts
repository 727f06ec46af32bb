import { EventEmitter } from 'node:events'
import t from 'tap'
import { alone, type LeaderConnection, standForElection } from '../../src/storage/leadership.ts'

/** A database with one lock, as PostgreSQL has it: a session's end lets go of it. */
function database() {
  let holder: object | undefined
  const state = { silent: false, refuses: false }
  const open = (): LeaderConnection => {
    const connection = new EventEmitter()
    return Object.assign(connection, {
      connect: async () => {
        if (state.refuses) throw new Error('ECONNREFUSED')
      },
      query: async (text: string) => {
        if (state.silent) return new Promise<never>(() => {})
        if (!text.includes('pg_try_advisory_lock')) return { rows: [] }
        holder ??= connection
        return { rows: [{ got: holder === connection }] }
      },
      end: async () => {
        if (holder === connection) holder = undefined
      },
    })
  }
  return { open, state, breakIt: () => (holder as EventEmitter | undefined)?.emit('end') }
}

const times = { lookEvery: 5, answerWithin: 30 }

t.test('one leads at a time; a lost connection ends it at once, and another goes on', async (t) => {
  const { open, state, breakIt } = database()
  const running = setInterval(() => {}, 1000) // its own timers keep no process alive
  t.teardown(() => clearInterval(running))
  let woken = (): void => {}
  const next = (): Promise<void> => new Promise((resolve) => (woken = resolve))
  const stand = () => standForElection(open, () => woken(), times)
  let changed = next()
  const first = stand()
  t.notOk(first.leads(), 'nobody leads before the database said so')
  await changed
  t.ok(first.leads())
  const second = stand()
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.notOk(second.leads(), 'the other waits')

  changed = next()
  breakIt()
  t.notOk(first.leads(), 'at once, not at the next look')
  await changed
  while (![first, second].some(({ leads }) => leads())) await next()
  t.equal([first, second].filter(({ leads }) => leads()).length, 1, 'one of them goes on')

  const leader = first.leads() ? first : second
  const other = leader === first ? second : first
  changed = next()
  await leader.resign()
  t.notOk(leader.leads())
  await changed
  while (!other.leads()) await next()
  t.pass('who resigns makes room')

  changed = next()
  state.silent = true
  await changed
  t.notOk(other.leads(), 'a database that does not answer has no leader')
  state.silent = false
  state.refuses = true
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.notOk(other.leads())
  changed = next()
  state.refuses = false
  await changed
  t.ok(other.leads(), 'it stands again when the database is back')
  await other.resign()
  await second.resign()
})

t.test('where there is one process, it leads', async (t) => {
  t.ok(alone.leads())
  await alone.resign()
  t.ok(alone.leads())
})
