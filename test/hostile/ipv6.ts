import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import type { ConnectionLimit, ProcessLoad } from '../../src/domain/load.ts'
import { knownClients } from '../../src/handshake/known-clients.ts'
import { asksOnce, base64, boots, crowd, slowCrowd, status, until } from '../http/crowds.ts'
import { install } from '../workers/installation.ts'

/**
 * Hostile clients over IPv6, where each has as many addresses as it likes: those of a /64 are counted as one. Run by `ipv6.test.ts` in
 * a network of its own, in which every address of 2001:db8::/32 is there.
 */
writeFileSync('/proc/sys/net/ipv6/ip_nonlocal_bind', '1')
spawnSync('ip', ['-6', 'route', 'add', 'local', '2001:db8::/32', 'dev', 'lo'], { stdio: 'inherit' })

const limits = {
  'max-connections': 2000,
  'max-connections-per-address': 40,
  'max-new-connections-per-address': 10,
  'max-handshakes-per-address': 20,
  'header-timeout-seconds': 6,
  'request-timeout-seconds': 7,
  'handshake-timeout-seconds': 60,
}
const hello = (knownClients()[0]?.bytes ?? Buffer.alloc(0)).toString('base64')
/** So many /64, none of which was there before. */
let used = 0
const subnetsOf = (count: number): string[] =>
  Array.from({ length: count }, () => `2001:db8:0:${(++used).toString(16)}`)

t.test('clients of one IPv6 /64 count as one, those of several do not', async (t) => {
  const place = await install(t, 10)
  const flags = Object.entries(limits).flatMap(([name, value]) => [`--${name}`, `${value}`])
  const server = await place.start(['--workers', '1', '--boot-listen', '[::]:0', ...flags])
  const { port } = server
  const load = async (): Promise<ProcessLoad> =>
    (await status(place, server)).processes[0]?.load as ProcessLoad // it has said so before
  const closedBy = async (limit: ConnectionLimit, least: number): Promise<void> => {
    await until(place, server, ({ closed }) => closed[limit] >= least)
    t.pass(`${limit} closed ${least}`)
  }
  const closedOfAddress = async (): Promise<number[]> => {
    const { closed } = await load()
    const limits = ['handshakes', 'new-connections', 'connections'] as const
    return limits.map((limit) => closed[`${limit}-of-address`])
  }
  /** One of another /64 is answered. */
  const others = async (words: string): Promise<void> => {
    const says = [base64('GET /_ah/health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')]
    const one = await crowd(t, {
      port,
      count: 1,
      net: 0,
      subnets: subnetsOf(1),
      tls: true,
      says,
      reads: true,
    })
    t.match(await one.closed(1), /^HTTP\/1\.1 200 OK/, words)
    await one.leave()
  }
  await boots(t, place, server, 'node1', 'a boot, to begin with')

  await t.test('handshakes that are begun', async (t) => {
    const begun = { port, net: 0, tls: false, reads: true, says: [hello] }
    const one = await crowd(t, { ...begun, count: 400, subnets: subnetsOf(1) })
    await closedBy('handshakes-of-address', 80) // of the hundred that may come at once twenty are taken
    await closedBy('new-connections-of-address', 40)
    await others('another /64')
    await boots(t, place, server, 'node2', 'and a node boots')
    await one.leave()
    const before = await closedOfAddress()
    const several = await crowd(t, { ...begun, count: 400, subnets: subnetsOf(40) })
    await until(place, server, ({ handshakes }) => handshakes >= 400)
    t.same(await closedOfAddress(), before, 'ten of each of forty: nobody is sent away')
    await several.leave()
  })

  await t.test('connections that are idle', async (t) => {
    const idle = { ...asksOnce, atOnce: 10, port, net: 0, tls: true, reads: true }
    const one = await crowd(t, { ...idle, count: 50, subnets: subnetsOf(1) })
    await closedBy('connections-of-address', 10)
    await others('another /64')
    await boots(t, place, server, 'node3', 'and a node boots')
    await one.leave()
    await until(place, server, ({ connections }) => connections < 5)
    const before = await closedOfAddress()
    const several = await crowd(t, { ...idle, count: 100, subnets: subnetsOf(5) })
    await until(place, server, ({ connections }) => connections >= 100)
    t.same(await closedOfAddress(), before, 'twenty of each of five')
    await several.leave()
  })

  await t.test('slowloris', async (t) => {
    const slow = await slowCrowd(t, {
      ...{ port, net: 0, count: 50, subnets: subnetsOf(1), atOnce: 10 },
      says: [base64('GET /_ah/health HTTP/1.1\r\nhost: a\r\n')],
      trickles: { bytes: base64('x: y\r\n'), everyMilliseconds: 200 },
    })
    await closedBy('connections-of-address', 20)
    await others('another /64')
    await boots(t, place, server, 'node4', 'and a node boots')
    t.match(await slow.closed(50), /^HTTP\/1\.1 408 Request Timeout/, 'who was taken has its time')
    await slow.leave()
  })
})
