import t, { type Test } from 'tap'
import { send } from '../helpers/robot.ts'
import { base64, boots, crowd, kernelOf, memoryMiB, until } from '../http/crowds.ts'
import { type Installation, install, type Server } from '../workers/installation.ts'

/** Readers that never read, in other ways than one file on a new connection, with the limits as they come. */
const sessions = 25
const perSession = 8

interface Ways {
  readonly words: string
  /** How many connections each session has, and what is asked on each. */
  readonly connections: number
  readonly says: (path: string) => string
}

const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\nhost: a\r\n${more}\r\n`
const half = 32 * 2 ** 20
const ways: readonly Ways[] = [
  {
    words: 'on connections that were kept from another answer',
    connections: perSession,
    says: (path) => get('/_ah/health') + get(path),
  },
  {
    words: 'all of a session one behind the other on one connection',
    connections: 1,
    says: (path) => get(path).repeat(perSession),
  },
  {
    words: 'with ranges: half of it each',
    connections: perSession,
    says: (path) => get(path, `range: bytes=${half}-\r\n`),
  },
  {
    words: 'with ranges, one behind the other on one connection',
    connections: 1,
    says: (path) =>
      Array.from({ length: perSession }, (_, n) => get(path, `range: bytes=${n * 2 ** 20}-\r\n`)).join(''),
  },
]

async function neverRead(
  t: Test,
  place: Installation,
  server: Server,
  { connections, says }: Ways,
  first: number,
): Promise<void> {
  const paths: string[] = []
  for (let n = 0; n < sessions; n += 1) paths.push(await kernelOf(place, server, `node${first + n}`))
  const before = memoryMiB(server)
  const readers = await crowd(t, {
    ...{ port: server.port, count: sessions * connections, net: 30, tls: true, reads: false },
    says: paths.map((path) => base64(says(path))),
  })
  let most = 0
  await until(place, server, ({ downloads }) => {
    most = Math.max(most, downloads)
    return downloads >= sessions * (connections === 1 ? 1 : perSession)
  })
  await boots(t, place, server, `node${first + sessions}`, 'a node boots beside them')
  const grown = memoryMiB(server) - before
  t.comment(`${most} downloads, ${Math.round((grown * 1024) / (sessions * perSession))} KiB for each asked`)
  t.ok(grown * 1024 < sessions * perSession * 400, `${grown} MiB`)
  await readers.leave()
  await until(place, server, ({ downloads }) => downloads === 0)
}

t.test('readers that never read: memory for each is bounded, however they ask', async (t) => {
  const place = await install(t, ways.length * (sessions + 1) + 1)
  const server = await place.start(['--workers', '1', '--request-timeout-seconds', '300'])
  await boots(t, place, server, 'node1', 'a boot, to begin with')
  // The kernel is in memory then, once for all.
  await send(server, 'GET', await kernelOf(place, server, 'node1'))
  for (const [at, way] of ways.entries())
    await t.test(way.words, (t) => neverRead(t, place, server, way, 2 + at * (sessions + 1)))
})
