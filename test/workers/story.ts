import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { verifyChains } from '../../src/storage/events.ts'
import { bootRobot, send } from '../helpers/robot.ts'
import { open, openToEach, sessionOf } from './connection.ts'
import { commandOf, type Installation, install, type Server } from './installation.ts'

/** The story of boots through two workers, and of their ends. `database` is a URL; SQLite in the data folder where there is none. */
export async function storyOfWorkers(t: Test, database?: string): Promise<void> {
  const place = await install(t, 20, database)
  let server = await place.start()
  const { ca, port } = server

  await t.test('a machine boots, asking now one worker and now the other', async (t) => {
    const done = await bootRobot({
      port,
      ca,
      host: 'node1',
      secret: secretOf(place, 'node1'),
      onLost: async () => {},
    })
    t.match(done, { stage1s: 1, lost: 0 })
  })

  await t.test('a worker runs with the flags of its keeper', (t) => {
    const flagsOf = (pid: number | undefined): string[] =>
      readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        .split('\0')
        .filter((word) => /^--(disable-warning|max-semi-space-size)=/.test(word))
    const expected = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=16']
    for (const worker of [1, 2]) t.same(flagsOf(server.workerOf(worker)), expected, `worker ${worker}`)
    t.end()
  })

  await t.test('one token in 50 requests to both workers opens once', async (t) => {
    const { stage2 } = await tokensOf(place, server, 'node2')
    const connections = await openToEach(server, 2, 25)
    const statuses = await Promise.all(
      connections.map(async ({ ask }, at) => {
        const headers = { authorization: `Bearer ${stage2}`, 'idempotency-key': `key-${at}`.padEnd(22, 'x') }
        return (await ask('POST', '/v1/boot/node2/stage2', headers)).status
      }),
    )
    t.equal(statuses.filter((status) => status === 200).length, 1)
    t.equal(statuses.filter((status) => status === 403).length, 49)
    for (const { socket } of connections) socket.destroy()
  })

  await t.test(
    'a worker that is killed behind a redemption: the other gives the same answer again',
    async (t) => {
      const { stage2 } = await tokensOf(place, server, 'node3')
      const [one, other] = await openToEach(server, 2, 1)
      if (one === undefined || other === undefined) throw new Error('two were opened')
      const headers = { authorization: `Bearer ${stage2}`, 'idempotency-key': 'a'.repeat(22) }
      const first = await one.ask('POST', '/v1/boot/node3/stage2', headers)
      t.equal(first.status, 200)
      const closed = once(one.socket, 'close')
      const since = server.lines.length
      process.kill(server.workerOf(one.worker) as number, 'SIGKILL')
      await closed
      t.same(await other.ask('POST', '/v1/boot/node3/stage2', headers), first)
      const otherKey = { ...headers, 'idempotency-key': 'b'.repeat(22) }
      t.equal((await other.ask('POST', '/v1/boot/node3/stage2', otherKey)).status, 403)
      await server.line(({ msg, worker }) => msg === 'a worker serves again' && worker === one.worker, since)
      other.socket.destroy()
    },
  )

  await t.test(
    'machines boot through while workers are killed under them, and nothing is served twice',
    async (t) => {
      const names = [...place.secrets.keys()].slice(4, 14)
      const serves = async (): Promise<void> => {
        for (;;) {
          const answer = await send(server, 'GET', '/_ah/health').catch(() => undefined)
          if (answer?.status === 200) return
        }
      }
      const since = server.lines.length
      const booting = Promise.all(
        names.map((host) => bootRobot({ port, ca, host, secret: secretOf(place, host), onLost: serves })),
      )
      for (const step of ['handover', 'stage2', 'join']) {
        const line = await server.line(({ route }) => route === `/v1/boot/:host/${step}`, since)
        server.killWorker(Number(line.worker))
      }
      await booting
      await place.withStorage(async ({ db }) => {
        const nodes = await db
          .selectFrom('nodes')
          .select(['name', 'state'])
          .where('name', 'in', names)
          .execute()
        t.same(new Set(nodes.map(({ state }) => state)), new Set(['ready']))
        const events = await db
          .selectFrom('events')
          .select(['kind', 'session'])
          .where('kind', 'in', ['stage2-redeemed', 'stage3-redeemed', 'join-redeemed'])
          .execute()
        const once = new Set(events.map(({ kind, session }) => `${kind} ${session}`))
        t.equal(once.size, events.length, 'each stage of each session was opened once')
        t.same((await verifyChains(db)).faults, [])
      })
    },
  )

  await t.test('the end of a session cuts its download, whichever worker sends it', async (t) => {
    const script = await stage1(place, server, 'node15')
    const path = new URL(/https:\S+artifacts\/kernel\?c=[\w-]{44}/.exec(script)?.[0] ?? '')
    const readers = await openToEach(server, 2, 1)
    const closed = readers.map(({ socket }) => {
      socket.removeAllListeners('data').pause()
      socket.write(`GET ${path.pathname}${path.search} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
      return new Promise((resolve) => socket.once('close', resolve)) // it may be reset: that is a cut, too
    })
    for (const { socket } of readers) await once(socket, 'readable')
    await stage1(place, server, 'node15')
    for (const { socket } of readers) socket.resume()
    await Promise.all(closed)
    for (const { socket } of readers)
      t.ok(socket.bytesRead < place.kernelBytes, `cut behind ${socket.bytesRead} bytes`)
  })

  await t.test('a TLS session goes on at the other worker, by TLS 1.2 and by 1.3', async (t) => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const first = await open(server, { maxVersion })
      const session = await sessionOf(first)
      first.socket.destroy()
      const seen = new Set<number>()
      while (seen.size < 2) {
        const next = await open(server, { maxVersion, session })
        t.equal(next.socket.isSessionReused(), true, `${maxVersion} at worker ${next.worker}`)
        seen.add(next.worker)
        next.socket.destroy()
      }
    }
  })

  if ((await place.withStorage(async ({ dialect }) => dialect)) === 'postgres') {
    await t.test('and at another server on the same database', async (t) => {
      const first = await open(server)
      const session = await sessionOf(first)
      first.socket.destroy()
      const other = await place.replica().start(['--workers', '1'])
      const socket = (await import('node:tls')).connect({
        host: '127.0.0.1',
        port: other.port,
        ca: other.ca,
        servername: 'localhost',
        session,
      })
      await once(socket, 'secureConnect')
      t.equal(socket.isSessionReused(), true)
      socket.destroy()
      other.child.kill('SIGTERM')
      t.match(await other.ended, { code: 0 })
    })
  }

  await t.test('told to stop, it ends when the downloads under way have', async (t) => {
    const script = await stage1(place, server, 'node16')
    const path = new URL(/https:\S+artifacts\/kernel\?c=[\w-]{44}/.exec(script)?.[0] ?? '')
    const readers = await openToEach(server, 2, 1)
    for (const { socket } of readers) {
      socket.removeAllListeners('data').pause()
      socket.write(`GET ${path.pathname}${path.search} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
      await once(socket, 'readable')
    }
    const since = server.lines.length
    server.child.kill('SIGTERM')
    await server.line(({ msg }) => msg === 'stopping', since)
    const closed = readers.map(({ socket }) => once(socket.resume(), 'close'))
    await Promise.all(closed)
    for (const { socket } of readers) t.ok(socket.bytesRead > place.kernelBytes, 'it has all of it')
    t.match(await server.ended, { code: 0, signal: null })
    await t.rejects(send({ port, ca }, 'GET', '/_ah/health'))
    const counted = await place.withStorage(({ db }) =>
      db
        .selectFrom('session_stages')
        .innerJoin('sessions', 'sessions.id', 'session_stages.session')
        .innerJoin('nodes', 'nodes.id', 'sessions.node')
        .select('session_stages.bytes')
        .where('nodes.name', '=', 'node16')
        .execute(),
    )
    t.equal(
      counted.reduce((sum, { bytes }) => sum + Number(bytes), 0),
      2 * place.kernelBytes,
      'and they are counted',
    )
  })

  await t.test('a reader that stalls is cut when the grace is over', async (t) => {
    server = await place.start(['--shutdown-grace-seconds', '1'])
    const script = await stage1(place, server, 'node17')
    const path = new URL(/https:\S+artifacts\/kernel\?c=[\w-]{44}/.exec(script)?.[0] ?? '')
    const reader = await open(server)
    reader.socket.removeAllListeners('data').pause()
    reader.socket.write(`GET ${path.pathname}${path.search} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    await once(reader.socket, 'readable')
    server.child.kill('SIGTERM')
    t.match(await server.ended, { code: 0, signal: null })
    reader.socket.destroy()
  })

  await t.test(
    'a keeper that is killed takes its workers with it, and the next server goes on',
    async (t) => {
      server = await place.start()
      const { stage2 } = await tokensOf(place, server, 'node18')
      const workers = server.workers()
      t.equal(workers.length, 2)
      server.child.kill('SIGKILL')
      await server.ended
      while (workers.some((id) => commandOf(id) !== ''))
        await new Promise((resolve) => setTimeout(resolve, 10))
      server = await place.start()
      const headers = { authorization: `Bearer ${stage2}`, 'idempotency-key': 'c'.repeat(22) }
      t.equal((await send(server, 'POST', '/v1/boot/node18/stage2', headers)).status, 200)
      server.child.kill('SIGTERM')
      t.match(await server.ended, { code: 0, signal: null })
    },
  )
}

function secretOf(place: Installation, host: string): string {
  return place.secrets.get(host) ?? ''
}

async function stage1(place: Installation, server: Server, host: string): Promise<string> {
  const query = `secret=${secretOf(place, host)}&serial=ROBOT&platform=efi`
  const answer = await send(server, 'GET', `/v1/boot/${host}/stage1.ipxe?${query}`)
  if (answer.status !== 200) throw new Error(`stage 1: ${answer.status} ${answer.text}`)
  return answer.text
}

async function tokensOf(place: Installation, server: Server, host: string): Promise<Record<string, string>> {
  const k = /handover\?k=([\w-]{44})/.exec(await stage1(place, server, host))?.[1]
  const answer = await send(server, 'GET', `/v1/boot/${host}/handover?k=${k}`)
  return (JSON.parse(answer.text) as { tokens: Record<string, string> }).tokens
}
