import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { byServer, createOperator, revokeOperator } from '../../src/fleet/operators.ts'
import { sharePages } from '../../src/http/shared-pages.ts'
import { appendEvent } from '../../src/storage/events.ts'
import { type Installation, openInstallation } from '../cli/helpers/installation.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

const quick = {
  heartbeatMilliseconds: 40,
  recheckMilliseconds: 60,
  pauseMilliseconds: 5,
  pollMilliseconds: 50,
}

async function append(world: World, node: string, count = 1, bytes = 10): Promise<void> {
  await world.context.storage.transaction(async (tx) => {
    for (let n = 1; n <= count; n++) {
      await appendEvent(tx, {
        ...{ kind: 'refused', at: world.clock.now(), node, session: null },
        ...{ actor: 'node', source: '192.0.2.1', detail: { n, filling: 'x'.repeat(bytes) } },
      })
    }
  })
}

interface Stream {
  readonly status: number
  readonly body: string
  readonly response: IncomingMessage
  /** Resolves with the nodes of the events so far when there are so many. */
  events(count: number): Promise<string[]>
  ids(): number[]
  readonly ended: Promise<unknown>
  leave(): void
}

async function open(
  { url, dataDir, token }: Installation,
  query = '',
  options: { token?: string; lastEventId?: string } = {},
): Promise<Stream> {
  const message: ClientRequest = httpsRequest(`${url}/api/v1/events/stream${query}`, {
    agent: false,
    ca: readFileSync(join(dataDir, 'ca.crt')),
    headers: {
      authorization: `Bearer ${options.token ?? token}`,
      ...(options.lastEventId === undefined ? {} : { 'last-event-id': options.lastEventId }),
    },
  }).end()
  message.on('error', () => {})
  const [response] = (await once(message, 'response')) as [IncomingMessage]
  let body = ''
  let rest = ''
  const [nodes, ids]: [string[], number[]] = [[], []]
  const waiting = new Set<() => void>()
  response.setEncoding('utf8').on('data', (text: string) => {
    body += text
    const messages = (rest + text).split('\n\n')
    rest = messages.pop() ?? ''
    for (const line of messages.join('\n').split('\n')) {
      if (line.startsWith('id: ')) ids.push(Number(line.slice(4)))
      if (line.startsWith('data: {"id"')) nodes.push((JSON.parse(line.slice(6)) as { node: string }).node)
    }
    for (const look of waiting) look()
  })
  const ended = new Promise((resolve) => response.on('close', resolve))
  response.on('error', () => {})
  return {
    status: response.statusCode ?? 0,
    get body() {
      return body
    },
    response,
    events: (count) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (nodes.length < count) return
          waiting.delete(look)
          resolve(nodes)
        }
        waiting.add(look)
        look()
      }),
    ids: () => ids,
    ended,
    leave: () => message.destroy(),
  }
}

const installed = (t: Test, openWorld: OpenWorld, streams = {}): Promise<Installation> =>
  openInstallation(t, openWorld, { streams: { ...quick, ...streams } })

t.test('of the pages that readers share only the last few are held, and none that failed', async (t) => {
  const pages = sharePages<number>(3)
  let asked = 0
  const load = async (): Promise<number[]> => {
    asked += 1
    return [asked]
  }
  t.same(await Promise.all([pages.get('a', load), pages.get('a', load)]), [[1], [1]], 'asked for once')
  for (let page = 0; page < 1000; page += 1) await pages.get(String(page), load)
  t.equal(pages.size, 3, 'a replay of the whole log')
  t.same(await pages.get('999', load), [1001], 'which is held')
  t.same(await pages.get('a', load), [1002], 'which was let go')
  await t.rejects(pages.get('b', () => Promise.reject(new Error('away'))))
  t.same(await pages.get('b', load), [1003])
  pages.clear()
  t.equal(pages.size, 0)
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'sends what happens, in order; who comes back with the last id misses nothing and gets nothing twice',
    async (t) => {
      const installation = await installed(t, openWorld)
      const { world } = installation
      await append(world, 'before')
      const stream = await open(installation)
      t.match(stream.response.headers, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      })
      await append(world, 'one')
      await append(world, 'two')
      t.same(await stream.events(2), ['one', 'two'], 'from now on')
      const last = Math.max(...stream.ids())
      stream.leave()
      await append(world, 'three', 450)
      const back = await open(installation, '', { lastEventId: String(last) })
      await append(world, 'four')
      t.same([...new Set(await back.events(451))], ['three', 'four'])
      const ids = back.body
        .slice(0, back.body.lastIndexOf('\n\n'))
        .split('\n\n')
        .filter((one) => one.includes('data: '))
        .map((one) => Number(/id: (\d+)/.exec(one)?.[1]))
      t.same(
        ids,
        ids.toSorted((a, b) => a - b),
      )
      t.equal(new Set(ids).size, 451)
      back.leave()
    },
  )

  await t.test('filters by node, kind and session, and moves the cursor past the others', async (t) => {
    const installation = await installed(t, openWorld)
    const { world } = installation
    const stream = await open(installation, '?after=0&node=mine&kind=refused')
    await append(world, 'other', 3)
    await append(world, 'mine')
    await append(world, 'other', 2)
    t.same(await stream.events(1), ['mine'])
    const newest = (await world.events()).at(-1)?.id ?? 0
    while (Math.max(...stream.ids()) < newest) await once(stream.response, 'data')
    t.notMatch(stream.body, '"other"')
    stream.leave()
  })

  await t.test(
    'refuses before it begins: no token, a wrong question, a cursor that the record does not reach, too many',
    async (t) => {
      const installation = await installed(t, openWorld, { maxReadersEach: 2, maxReaders: 3 })
      const { world } = installation
      const refused = async (stream: Stream): Promise<[number, string]> => {
        await stream.ended
        return [stream.status, (JSON.parse(stream.body) as { code: string }).code]
      }
      t.same(await refused(await open(installation, '', { token: 'x' })), [401, 'unauthenticated'])
      t.same(await refused(await open(installation, '?kind=nothing')), [400, 'invalid'])
      t.same(await refused(await open(installation, '', { lastEventId: 'x' })), [400, 'invalid'])
      t.same(await refused(await open(installation, '?after=999')), [409, 'conflict'])
      const open1 = await open(installation)
      await open(installation)
      t.same(await refused(await open(installation)), [503, 'overloaded'], 'of one token')
      const [row] = await world.context.storage.db.selectFrom('operators').select('name').execute()
      const second = await createOperator(world.context, {
        ...{ name: row?.name ?? '', role: 'viewer', expiresAt: null },
      })
      t.same(
        await refused(await open(installation, '', { token: second })),
        [503, 'overloaded'],
        'of one operator, by another token',
      )
      const others = await createOperator(world.context, { name: 'other', role: 'viewer', expiresAt: null })
      await open(installation, '', { token: others })
      t.same(await refused(await open(installation, '', { token: others })), [503, 'overloaded'], 'of all')
      open1.leave()
      await append(world, 'x')
      let again = await open(installation)
      while (again.status === 503) again = await open(installation)
      t.equal(again.status, 200, 'one that left makes room')
    },
  )

  await t.test('a revoked token ends it, with the reason; a server that stops ends it without', async (t) => {
    const installation = await installed(t, openWorld)
    const { world } = installation
    const token = await createOperator(world.context, { name: 'guest', role: 'viewer', expiresAt: null })
    const [guest, admin] = [await open(installation, '', { token }), await open(installation)]
    const where = world.context.storage.db.selectFrom('operators').select('id').where('name', '=', 'guest')
    const row = await where.executeTakeFirst()
    await revokeOperator(world.context, byServer, row?.id ?? '')
    await guest.ended
    t.match(
      guest.body,
      'event: end\ndata: {"code":"unauthenticated","detail":"the operator token was revoked"}\n\n',
    )
    await installation.stop()
    await admin.ended
    t.notMatch(admin.body, 'event: end')
  })

  await t.test('a reader that takes nothing is cut off, and holds up nobody', async (t) => {
    const installation = await installed(t, openWorld, { stalledMilliseconds: 5000, maxReadersEach: 2 })
    const { world } = installation
    const slow = await open(installation, '?after=0')
    slow.response.pause()
    const fast = await open(installation, '?after=0')
    await append(world, 'much', 500, 60_000)
    t.equal((await fast.events(500)).length, 500)
    let third = await open(installation)
    while (third.status === 503) third = await open(installation)
    slow.response.resume()
    await slow.ended
    t.equal(slow.response.complete, false, 'cut off')
    fast.leave()
    third.leave()
  })
})
