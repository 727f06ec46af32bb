import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { tokenFromRandom } from '../../src/domain/token.ts'
import type { GateLimits } from '../../src/http/gate.ts'
import { closeWithin } from '../../src/listen.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { worldBegins } from '../helpers/world.ts'
import { type Listening, type ListenOptions, listen } from '../http/held-listener.ts'

/** Wherever a client hangs up, and whatever it sends ahead: its places are free again. One that is not is lost until a restart. */

const pki = join(t.testdir({ data: { pki: {} } }), 'data')
await createAuthority(pki, worldBegins)
const keys = await loadTls(openAuthority(pki), { kind: 'boot', names: ['127.0.0.1'], now: worldBegins })
const tls = keys.options()

interface Client extends TLSSocket {
  /** Its machine loses its power: nothing is said any more, but a reset. */
  vanish(): void
}

interface Site extends Listening {
  /** A client that has said so much. */
  client(says?: string): Promise<Client>
  /** Waits until the gate is so. */
  becomes(load: Partial<Record<'working' | 'waiting' | 'downloads' | 'connections', number>>): Promise<void>
}

const oneAtATime = { maxBootWork: 1, maxDownloads: 2, maxConnections: 50 }

async function open(t: Test, limits: Partial<GateLimits> = {}, options: ListenOptions = {}): Promise<Site> {
  const listening = listen(t, { ...oneAtATime, ...limits }, { tls, ...options })
  const { app, gate } = listening
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.server.closeAllConnections())
  const { port } = app.server.address() as AddressInfo
  return {
    ...listening,
    async client(says = '') {
      const raw = connect({ port, host: '127.0.0.1' })
      const socket = connectTls({ socket: raw, rejectUnauthorized: false })
      for (const one of [raw, socket]) one.on('error', () => {})
      await once(socket, 'secureConnect')
      if (says !== '') socket.write(says)
      return Object.assign(socket, { vanish: () => void raw.resetAndDestroy() })
    },
    async becomes(load) {
      const is = (): boolean => {
        const now = gate.load()
        return Object.entries(load).every(([name, value]) => now[name as keyof typeof load] === value)
      }
      while (!is()) await new Promise((resolve) => setImmediate(resolve))
    },
  }
}

const get = (path: string, address = '192.0.2.1'): string =>
  `GET /v1/boot/mlab1/${path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: ${address}\r\n\r\n`
const head = (path: string, bytes: number, address = '192.0.2.1'): string =>
  `POST /v1/boot/mlab1/${path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: ${address}\r\ncontent-length: ${bytes}\r\n` +
  `authorization: Bearer ${token}\r\n\r\n`
const post = (path: string, bytes: number, address?: string): string =>
  head(path, bytes, address) + 'x'.repeat(bytes)
const token = tokenFromRandom(new Uint8Array(33).fill(0xa7)).text
const stage1 = get('stage1.ipxe')
const kernel = get('artifacts/kernel?c=x')
const large = 30_000

/** Answers what is asked until the gate is so. */
async function answering({ answer, becomes }: Site, load: Parameters<Site['becomes']>[0]): Promise<void> {
  let is = false
  const will = becomes(load).then(() => (is = true))
  while (!is) {
    answer()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await will
}

/** Answers what is asked until all is over, and looks that who comes then is served at once. */
async function isWhole(t: Test, site: Site): Promise<void> {
  const { app, asked, answer, gate, client } = site
  await answering(site, { working: 0, waiting: 0, downloads: 0, connections: 0 })
  t.ok(
    gate.bodies.take('another site', 3 * large, () => {}),
    'no room for bodies is held',
  )
  const before = asked.length
  const next = await client(stage1)
  await site.until(before + 1)
  answer()
  const [text] = await once(next, 'data')
  t.match(String(text), /^HTTP\/1\.1 200 /, 'who comes then is served')
  next.destroy()
  app.server.closeAllConnections()
}

t.test('a body that gave way while its request waited takes no place when its turn comes', async (t) => {
  const site = await open(t, {}, { largeBodies: 3 * large + 1000 })
  const { asked, client, becomes, gate, answer } = site
  // Its answer is behind three others: it has given way, and its connection is still there.
  const ahead = await client(stage1 + post('stage2', large).repeat(3))
  ahead.resume()
  await becomes({ working: 1, waiting: 3 })
  const other = await client(post('stage2', large, '198.51.100.1'))
  await becomes({ waiting: 4 })
  while (asked.length < 4) {
    answer()
    await new Promise((resolve) => setImmediate(resolve))
  }
  answer()
  await becomes({ waiting: 0 })
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(gate.load().working, 0, 'its place is free')
  t.same(asked, ['stage1', 'redeem', 'redeem', 'redeem'], 'nor was anything asked for it')
  for (const one of [ahead, other]) one.destroy()
  await isWhole(t, site)
})

/** What each says, and when it hangs up. `held`: another is worked on meanwhile. */
const ways: readonly {
  readonly words: string
  readonly held: boolean
  readonly says: string
  readonly when: Parameters<Site['becomes']>[0]
  /** What is asked is answered before. */
  readonly answered?: true
}[] = [
  { words: 'before it has said anything', held: false, says: '', when: { connections: 1 } },
  { words: 'within its headers', held: false, says: stage1.slice(0, 30), when: { connections: 1 } },
  {
    words: 'within a large body',
    held: false,
    says: `${head('stage2', large)}x`,
    when: { connections: 1, working: 0 },
  },
  { words: 'while it waits', held: true, says: stage1, when: { working: 1, waiting: 1 } },
  { words: 'while its report waits', held: true, says: post('report', 99), when: { working: 1, waiting: 1 } },
  {
    words: 'while it waits, with a large body',
    held: true,
    says: post('stage2', large),
    when: { working: 1, waiting: 1 },
  },
  {
    words: 'while it waits, and has sent more ahead',
    held: true,
    says: get('stage1.ipxe') + post('stage2', large) + post('report', 99) + kernel + stage1,
    when: { working: 2, waiting: 4 },
  },
  { words: 'while it is worked on', held: false, says: stage1, when: { working: 1 } },
  {
    words: 'while it is worked on, and what it sent ahead waits',
    held: false,
    says: stage1.repeat(3),
    when: { working: 1, waiting: 2 },
  },
  {
    words: 'while downloads are opened, and others wait',
    held: false,
    says: kernel.repeat(3),
    when: { working: 1, waiting: 2 },
  },
  {
    words: 'while what it downloads is read from a store that stands still',
    held: false,
    says: kernel,
    when: { working: 0, downloads: 1 },
    answered: true,
  },
  {
    words: 'while it downloads, has sent more ahead, and there is no place for all',
    held: false,
    says: kernel.repeat(3),
    when: { working: 0, waiting: 0, downloads: 1 },
    answered: true,
  },
]

for (const { words, held, says, when, answered } of ways)
  t.test(`who hangs up ${words} leaves no place taken`, async (t) => {
    const site = await open(t, {}, { largeBodies: 3 * large + 1000, storeStandsStill: true })
    const { client, becomes, asked, until } = site
    const other = held ? await client(stage1) : undefined
    if (held) await until(1)
    const gone = await client(says)
    gone.resume()
    if (answered) await answering(site, when)
    else await becomes(when)
    const before = asked.length
    gone.vanish()
    await becomes({ connections: held ? 1 : 0, downloads: 0, waiting: 0 })
    t.same(
      asked.slice(before).filter((step) => step !== 'malformed'),
      [],
      'nothing more is asked for it',
    )
    other?.destroy()
    await isWhole(t, site)
  })

t.test('who is told to come again, and stays or hangs up, holds no place', async (t) => {
  const site = await open(t, { maxBootQueue: 0 })
  const { client, until, becomes, gate } = site
  const other = await client(stage1)
  await until(1)
  const stays = await client(stage1)
  const [text] = await once(stays, 'data')
  t.match(String(text), /^HTTP\/1\.1 503 [\s\S]*retry-after: \d+/i)
  const gone = await client(stage1)
  await once(gone, 'data')
  gone.vanish()
  await becomes({ connections: 2, working: 1, waiting: 0 })
  t.equal(gate.load().toldToWait, 2)
  for (const one of [other, stays]) one.destroy()
  await isWhole(t, site)
})

t.test('a server that stops answers who waits; whom it cuts off leaves no place taken', async (t) => {
  for (const graceSeconds of [300, 0]) {
    const site = await open(t)
    const { app, asked, gate, client, becomes } = site
    const clients = [await client(stage1)]
    await becomes({ working: 1 })
    for (let n = 1; n <= 5; n += 1) clients.push(await client(n === 3 ? post('report', 99) : stage1))
    await becomes({ waiting: 5 })
    const texts = clients.map(async (socket) => {
      let text = ''
      socket.on('data', (chunk: Buffer) => {
        text += chunk
        socket.end() // else it may ask on, until it has been idle for as long as any
      })
      await once(socket, 'close')
      return text.split('\r\n')[0]
    })
    const closed = closeWithin(app, graceSeconds)
    if (graceSeconds === 0) await becomes({ connections: 0 })
    await answering(site, { working: 0, waiting: 0, connections: 0 })
    await closed
    const statuses = (await Promise.all(texts)).map((line) => line?.slice(9, 12) ?? '')
    const expected =
      graceSeconds === 0 ? ['', '', '', '', '', ''] : ['200', '200', '200', '400', '200', '200']
    t.same(statuses, expected)
    t.equal(asked.filter((step) => step === 'stage1').length, graceSeconds === 0 ? 1 : 5)
    t.match(gate.load(), { working: 0, waiting: 0, downloads: 0, toldToWait: 0 })
  }
})
