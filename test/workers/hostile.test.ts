import t, { type Test } from 'tap'
import type { ProcessLoad } from '../../src/domain/load.ts'
import { knownClients } from '../../src/handshake/known-clients.ts'
import { send } from '../helpers/robot.ts'
import {
  asksOnce,
  base64,
  boots,
  type Crowd,
  crowd,
  kernelOf,
  memoryMiB,
  operatorPort,
  slowCrowd,
  status,
} from '../http/crowds.ts'
import type { Hostile } from '../http/hostile-clients.ts'
import { type Installation, install, type Server } from './installation.ts'

/** What hostile clients get from a server of two workers: each worker reaches its limits, and machines boot by both meanwhile. */
const limits = {
  'max-connections': 60,
  'max-operator-connections': 20,
  // Enough for a node that boots beside a crowd on a slow machine with much else to do.
  'header-timeout-seconds': 6,
  'request-timeout-seconds': 7,
  'handshake-timeout-seconds': 6,
  'max-downloads': 16,
  // Who never reads is not closed by himself.
  'stall-timeout-seconds': 3600,
}

/** Waits until both workers say so of themselves. */
async function untilEach(
  place: Installation,
  server: Server,
  is: (load: ProcessLoad) => boolean,
): Promise<void> {
  for (;;) {
    const { processes } = await status(place, server)
    const workers = processes.filter(({ role }) => role === 'worker')
    if (workers.length === 2 && workers.every(({ load }) => is(load as ProcessLoad))) return
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

let net = 60
const nextNet = (): number => net++

/** A crowd for each worker: who is there first takes a connection, so the other stands still meanwhile. */
async function crowdOfEach(
  t: Test,
  server: Server,
  hostile: () => Omit<Hostile, 'net' | 'tls'>,
): Promise<Crowd[]> {
  const crowds: Crowd[] = []
  for (const other of [1, 2]) {
    const standing = server.workerOf(other) as number // it runs
    process.kill(standing, 'SIGSTOP')
    crowds.push(await crowd(t, { ...hostile(), net: nextNet(), tls: 'resumed', atOnce: 10 }))
    process.kill(standing, 'SIGCONT')
  }
  return crowds
}

t.test('two workers, each at its limits', async (t) => {
  const place = await install(t, 30)
  const server = await place.start(
    Object.entries(limits).flatMap(([name, value]) => [`--${name}`, `${value}`]),
  )
  const { port } = server
  await boots(t, place, server, 'node1', 'a boot, to begin with')

  for (const [name, to] of [
    ['boot', port],
    ['operator', operatorPort(place)],
  ] as const) {
    await t.test(`slowloris on the ${name} listener`, async (t) => {
      const slow = await slowCrowd(t, {
        ...{ port: to, count: 16, net: nextNet() },
        says: [base64('GET /_ah/health HTTP/1.1\r\nhost: a\r\n')],
        trickles: { bytes: base64('x: y\r\n'), everyMilliseconds: 200 },
      })
      await boots(t, place, server, 'node2', 'a node boots beside them')
      t.ok(await status(place, server), 'an operator is answered')
      t.match(await slow.closed(16), /^HTTP\/1\.1 408 Request Timeout/)
      await slow.leave()
    })
  }

  await t.test('idle connections: every place of each worker is taken, and a node boots', async (t) => {
    const before = memoryMiB(server)
    const count = limits['max-connections'] + 20
    const crowds = await crowdOfEach(t, server, () => ({ ...asksOnce, port, count, reads: true }))
    await untilEach(
      place,
      server,
      ({ connections, closed }) => connections === limits['max-connections'] && closed.connections >= 20,
    )
    for (const host of ['node3', 'node4', 'node5']) await boots(t, place, server, host, `${host} boots`)
    t.ok(memoryMiB(server) - before < 300)
    await Promise.all(crowds.map((one) => one.leave()))
  })

  await t.test('handshakes that are begun, and what is none', async (t) => {
    const hello = (knownClients()[0]?.bytes ?? Buffer.alloc(0)).toString('base64')
    const says = [hello, base64('GET / HTTP/1.1\r\n\r\n'), '']
    const flood = await crowd(t, { port, count: 1500, net: nextNet(), tls: false, says, reads: true })
    await boots(t, place, server, 'node6', 'a node boots among them')
    await flood.closed(1500)
    await flood.leave()
    const operators = await crowd(t, {
      ...{ port: operatorPort(place), count: 60, net: nextNet(), tls: false, reads: true },
      says: [hello, ''],
    })
    t.ok(await status(place, server), 'an operator is answered')
    await boots(t, place, server, 'node7', 'and a node boots')
    await operators.leave()
  })

  await t.test(
    'readers that never read have all places for downloads: they make room when others want it',
    async (t) => {
      const says: string[] = []
      for (let n = 8; n < 20; n += 1)
        says.push(base64(`GET ${await kernelOf(place, server, `node${n}`)} HTTP/1.1\r\nhost: a\r\n\r\n`))
      const crowds = await crowdOfEach(t, server, () => ({ port, count: 40, says, reads: false }))
      await untilEach(place, server, ({ toldToWaitBy }) => toldToWaitBy.download > 0)
      await boots(t, place, server, 'node20', 'a node boots beside them')
      const path = await kernelOf(place, server, 'node21')
      let asked = await send(server, 'GET', path)
      while (asked.status === 503) {
        await new Promise((resolve) => setTimeout(resolve, 1000)) // it is told to, and by more
        asked = await send(server, 'GET', path)
      }
      t.same([asked.status, asked.text.length], [200, place.kernelBytes], 'a node downloads within seconds')
      await Promise.all(crowds.map((one) => one.leave()))
    },
  )

  await t.test('readers that never read have all places of the operator listener', async (t) => {
    const before = memoryMiB(server)
    const many = 'GET /api/v1/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(16)
    const deaf = await crowd(t, {
      ...{ port: operatorPort(place), count: 2 * limits['max-operator-connections'], net: nextNet() },
      ...{ tls: true, says: [base64(many)], reads: false },
    })
    await boots(t, place, server, 'node24', 'a node boots')
    // Refused until they have stalled for ten seconds; they would for ever.
    const answered = (): Promise<boolean> => status(place, server).then(Boolean, () => false)
    while (!(await answered())) await new Promise((resolve) => setTimeout(resolve, 250))
    t.ok(memoryMiB(server) - before < 100, 'what is large is sent by the piece')
    await deaf.leave()
  })

  await t.test('hundreds of ranges, by each worker', async (t) => {
    const path = await kernelOf(place, server, 'node22')
    const range = `bytes=${Array.from({ length: 500 }, (_, n) => `0-${n + 1}`).join(',')}`
    for (let n = 0; n < 4; n += 1) {
      const { status, text } = await send(server, 'GET', path, { range })
      t.same([status, text.length], [200, place.kernelBytes], 'one whole answer')
    }
    await boots(t, place, server, 'node23', 'and a node boots')
  })
  server.child.kill('SIGTERM')
  t.match(await server.ended, { code: 0 })
})
