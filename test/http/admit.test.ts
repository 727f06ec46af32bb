import t from 'tap'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { PawlError } from '../../src/errors.ts'
import { workOfRoutes } from '../../src/http/gate.ts'
import { listen } from './held-listener.ts'

const from = (address: string): { headers: Record<string, string> } => ({
  headers: { 'x-forwarded-for': address },
})
const stage1 = '/v1/boot/mlab1/stage1.ipxe'

t.test('every route of the boot listener is something to admission', async (t) => {
  const { app } = listen(t, {})
  await app.ready()
  const routes = [...app.printRoutes({ commonPrefix: false }).matchAll(/(\/\S*|\S+) \(/g)]
  t.ok(routes.length > 5)
  for (const url of Object.keys(workOfRoutes))
    t.ok(
      app.hasRoute({ method: 'GET', url }) || app.hasRoute({ method: 'POST', url }) || url.includes('ipxe/'),
      url,
    )
})

t.test(
  'who waits longer than iPXE keeps a connection has none meanwhile; a proxy keeps its own',
  async (t) => {
    for (const [seconds, trustedProxies, connection] of [
      [9, [], 'keep-alive'],
      [10, [], 'close'],
      [120, [], 'close'],
      [120, ['127.0.0.1'], 'keep-alive'],
    ] as const) {
      const busy = new PawlError('overloaded', 'busy', { retryAfterSeconds: seconds })
      const { app } = listen(t, {}, { trustedProxies: [...trustedProxies], stage1: busy })
      const { statusCode, headers } = await app.inject(stage1)
      t.match([statusCode, headers['retry-after'], headers.connection], [503, `${seconds}`, connection])
    }
  },
)

t.test('who finds no room is told to come again, and nothing of the boot was asked', async (t) => {
  const { app, gate, asked, answer, until } = listen(t, { maxBootWork: 1, maxBootQueue: 0 })
  const first = app.inject({ url: stage1, ...from('192.0.2.1') })
  await until(1)
  const refused = await app.inject({ url: '/v1/boot/mlab2/stage1.ipxe', ...from('192.0.2.2') })
  t.equal(refused.statusCode, 503)
  t.equal(refused.body, 'the server is busy: come again as Retry-After says\n')
  t.equal(refused.headers['retry-after'], '3', 'whole seconds, which is all that iPXE reads')
  t.equal(refused.headers['cache-control'], 'no-store')
  const again = await app.inject({ method: 'POST', url: '/v1/boot/mlab2/stage2', ...from('192.0.2.2') })
  t.equal(again.statusCode, 503, 'nor is a token looked at')
  t.same(asked, ['stage1'])
  answer()
  t.equal((await first).statusCode, 200)
  t.match(gate.load(), {
    toldToWait: 2,
    toldToWaitBy: { new: 1, running: 1 },
    working: 0,
    nodesWaiting: 1,
    nodes: [{ node: 'mlab2', request: 'stage2', source: '192.0.2.2', times: 2 }],
  })
  const late = app.inject({ url: '/v1/boot/mlab2/stage1.ipxe', ...from('192.0.2.2') })
  await until(2)
  answer()
  t.equal((await late).statusCode, 200)
  t.match(gate.load(), { nodesWaiting: 0 }, 'it came')
})

t.test('reports always get in, and what asks no database waits for nobody', async (t) => {
  const { app, asked, answer, until } = listen(t, { maxBootWork: 1, maxBootQueue: 0 })
  const first = app.inject({ url: stage1, ...from('192.0.2.1') })
  await until(1)
  t.equal((await app.inject('/_ah/health')).statusCode, 200)
  const sendReport = (token: string) =>
    app.inject({
      method: 'POST',
      url: '/v1/boot/mlab1/report',
      headers: { 'content-type': 'application/x-www-form-urlencoded', authorization: `Bearer ${token}` },
      payload: 'message=success',
    })
  const report = sendReport(tokenFromRandom(new Uint8Array(33).fill(0xa7)).text)
  t.equal(
    (await sendReport('a.b')).statusCode,
    503,
    'what is no token reports nothing, and goes before nobody',
  )
  t.equal((await app.inject({ url: stage1, ...from('192.0.2.3') })).statusCode, 503)
  answer()
  t.equal((await first).statusCode, 200)
  await until(2)
  answer()
  t.equal((await report).statusCode, 204)
  t.same(asked, ['stage1', 'report'])
})

t.test('who waits is served when its turn comes; a malformed request leaves its place', async (t) => {
  const { app, gate, asked, answer, until } = listen(t, { maxBootWork: 1, maxBootQueue: 2 })
  const first = app.inject({ url: stage1, ...from('192.0.2.1') })
  await until(1)
  const headers = { authorization: `Bearer ${tokenFromRandom(new Uint8Array(33).fill(0xa7)).text}` }
  const bad = app.inject({ method: 'POST', url: '/v1/boot/mlab1/report', headers, payload: 'message=' })
  const second = app.inject({ method: 'POST', url: '/v1/boot/mlab1/stage2', ...from('192.0.2.1') })
  while (gate.load().waiting < 2) await new Promise((resolve) => setImmediate(resolve))
  answer()
  await first
  t.equal((await bad).statusCode, 400)
  await until(3)
  answer()
  t.equal((await second).statusCode, 200)
  t.same(asked, ['stage1', 'malformed', 'redeem'])
  t.match(gate.load(), { working: 0, waiting: 0, waited: 2 })
})

t.test('the site of who was served is learned from the label of its node', async (t) => {
  const { app, gate, answer, until } = listen(t, {})
  const one = app.inject({ url: stage1, ...from('192.0.2.1') })
  await until(1)
  t.same(gate.sites.takeNodes(), [], 'not before it was served: a name in a URL proves nothing')
  answer()
  await one
  t.same(gate.sites.takeNodes(), ['mlab1'])
  gate.sites.learn({ mlab1: 'lga' })
  t.equal(gate.sites.siteOf('192.0.2.99'), 'site lga')
})

t.test('who hangs up while a download is opened keeps no place among the downloads', async (t) => {
  const { app, gate, answer, until } = listen(t, { maxDownloads: 2 })
  let hangUp = async (): Promise<void> => {}
  app.addHook('preHandler', async (_request, { raw }) => {
    hangUp = () => new Promise((resolve) => raw.once('close', resolve).destroy())
  })
  const url = '/v1/boot/mlab1/artifacts/kernel?c=x'
  for (let n = 1; n <= 3; n++) {
    const asked = app.inject({ url, ...from('192.0.2.1') }).catch(() => {})
    await until(2 * n - 1)
    await hangUp()
    answer()
    await until(2 * n)
    answer()
    await asked
    t.match(gate.load(), { downloads: 0, working: 0, toldToWait: 0 })
  }
})

t.test('who hangs up keeps the place until the work is done', async (t) => {
  const { app, gate, asked, answer, until } = listen(t, { maxBootWork: 1 })
  let hangUp = async (): Promise<void> => {}
  app.addHook('preHandler', async (_request, { raw }) => {
    hangUp = () => new Promise((resolve) => raw.once('close', resolve).destroy())
  })
  const first = app.inject({ url: stage1, ...from('192.0.2.1') }).catch(() => {})
  await until(1)
  await hangUp()
  t.match(gate.load(), { working: 1 })
  const second = app.inject({ url: '/v1/boot/mlab2/stage1.ipxe', ...from('192.0.2.2') })
  while (gate.load().waiting < 1) await new Promise((resolve) => setImmediate(resolve))
  t.same(asked, ['stage1'])
  answer()
  await first
  await until(2)
  answer()
  t.equal((await second).statusCode, 200)
  t.match(gate.load(), { working: 0, waiting: 0 })
})

t.test(
  'a body that is too large is refused for that, and takes no part of what others may send',
  async (t) => {
    const { app, asked, answer, until } = listen(t, {})
    const large = { 'content-length': String(2 ** 30), 'content-type': 'text/plain' }
    const send = () => app.inject({ method: 'POST', url: stage1, headers: large, payload: 'x' })
    const many = Array.from({ length: 8 }, send)
    await until(8)
    t.equal((await send()).statusCode, 413, 'of many at once a few are put on record')
    t.equal(asked.length, 8)
    answer()
    for (const one of many) t.equal((await one).statusCode, 413, 'on record or not')
  },
)

t.test('large bodies share a bound; small ones always come in', async (t) => {
  const { app, gate, asked, answer, until } = listen(t, { maxBootWork: 10_000, maxBootQueue: 10_000 })
  const send = (bytes: number) =>
    app.inject({ method: 'POST', url: '/v1/boot/mlab1/stage2', payload: Buffer.alloc(bytes, 'x') })
  const many = Array.from({ length: 1024 }, () => send(65_536))
  await until(1024)
  t.equal((await send(65_536)).statusCode, 503, '64 MiB of them are here')
  t.match(gate.load(), { nodesWaiting: 1, nodes: [{ node: 'mlab1', request: 'stage2' }] }, 'one sees it')
  const small = send(4096)
  await until(1025)
  answer()
  t.equal((await small).statusCode, 200)
  for (const one of many) await one
  t.equal(asked.length, 1025)
})
