import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import pino from 'pino'
import t, { type Test } from 'tap'
import { ticketPeriodSeconds } from '../../src/boot/ticket-key.ts'
import { moveDatabase } from '../../src/move-database.ts'
import { startServer } from '../../src/server.ts'
import { backup, configOf, restore } from '../backup/helpers.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'
import { open, openToEach, sessionOf } from './connection.ts'
import { type Installation, install, type Server, start } from './installation.ts'

/** TLS sessions of clients whose server comes back with another database: they are gone on with, or begin anew without a word. */
const versions = ['TLSv1.2', 'TLSv1.3'] as const
const noPostgres = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()

/** What clients of each version remember of a server that has ended since. */
async function sessionsOf(place: Installation): Promise<Buffer[]> {
  const server = await place.start()
  const sessions: Buffer[] = []
  for (const maxVersion of versions) {
    const connection = await open(server, { maxVersion })
    sessions.push(await sessionOf(connection))
    connection.socket.destroy()
  }
  await end(server)
  return sessions
}

async function end(server: Server): Promise<void> {
  server.child.kill('SIGTERM')
  await server.ended
}

/** Comes again with what it remembers, to each worker. */
async function comeAgain(
  t: Test,
  server: Server,
  sessions: readonly Buffer[],
  reused: boolean,
): Promise<void> {
  for (const [at, session] of sessions.entries()) {
    const maxVersion = versions[at] ?? 'TLSv1.3'
    for (const { socket, worker, ask } of await openToEach(server, 2, 1, { maxVersion, session })) {
      t.equal(socket.isSessionReused(), reused, `${maxVersion} at worker ${worker}`)
      t.equal((await ask('GET', '/_ah/health')).status, 200)
      socket.destroy()
    }
  }
}

t.test(
  'a backup has no ticket key: behind a restore sessions begin anew, and are gone on with from then on',
  async (t) => {
    const place = await install(t, 1)
    const sessions = await sessionsOf(place)
    const database = join(place.folder, 'pawl.db')
    const file = join(place.folder, '..', 'backup.tar')
    await backup({ dataDir: place.folder, database }, file)
    const restored = join(place.folder, '..', 'restored')
    await restore(file, restored, join(restored, 'pawl.db'))
    const server = await start(t, restored, join(restored, 'pawl.db'), [])
    await comeAgain(t, server, sessions, false)
    for (const maxVersion of versions) {
      const connection = await open(server, { maxVersion })
      const session = await sessionOf(connection)
      connection.socket.destroy()
      const again = await open(server, { maxVersion, session })
      t.equal(again.socket.isSessionReused(), true, maxVersion)
      again.socket.destroy()
    }
    await end(server)
  },
)

t.test(
  'a database that moves to PostgreSQL takes the ticket key along: sessions go on',
  { skip: noPostgres ?? false },
  async (t) => {
    const cluster = await startCluster(t)
    const place = await install(t, 1)
    const sessions = await sessionsOf(place)
    const to = await cluster.create('moved')
    await moveDatabase({ config: configOf(place.folder), to, now: new Date() })
    const server = await start(t, place.folder, to, [])
    await comeAgain(t, server, sessions, true)
    await end(server)
  },
)

t.test('the key changes by the clock, and every worker takes the next one', async (t) => {
  const place = await install(t, 1)
  let aheadMilliseconds = 0
  const server = await startServer({
    config: configOf(place.folder, { workers: '2' }),
    clock: () => new Date(Date.now() + aheadMilliseconds),
    log: pino({ level: 'silent' }),
    hostName: 'localhost',
    processId: process.pid,
    templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
  })
  t.teardown(() => server.close())
  const ca = readFileSync(join(place.folder, 'ca.crt'), 'utf8')
  const port = Number(new URL(server.ready.boot).port)
  const come = async <T>(look: (socket: TLSSocket) => T, session?: Buffer): Promise<T> => {
    const known = session === undefined ? {} : { session }
    const socket = connect({ host: '127.0.0.1', port, ca, maxVersion: 'TLSv1.2', ...known })
    await once(socket, 'secureConnect')
    const seen = look(socket)
    socket.on('error', () => {}).destroy()
    return seen
  }
  const remember = (): Promise<Buffer> =>
    come((socket) => socket.getSession()).then((session) => session ?? Buffer.alloc(0))
  /** Of so many connections at once, which both workers take. */
  const resumed = async (session: Buffer): Promise<number> => {
    const look = (socket: TLSSocket): boolean => socket.isSessionReused()
    const all = await Promise.all(Array.from({ length: 20 }, () => come(look, session)))
    return all.filter(Boolean).length
  }
  const first = await remember()
  t.equal(await resumed(first), 20)
  aheadMilliseconds = ticketPeriodSeconds * 1000
  await server.maintain()
  await until(t, () => resumed(first), 0)
  // One may have taken all of those connections, and the other hear of the key a moment later.
  await until(t, async () => resumed(await remember()), 20)
})
