import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'

/**
 * What the page knows, without a browser: the stream of events and the fleet, from a server that is a function. The modules are
 * named by URLs, since their types are those of browsers.
 */
type Answer = (path: string, signal: AbortSignal) => Response | Promise<Response>

const kept = new Map<string, string>()
const window = new EventTarget()
Object.assign(globalThis, {
  window,
  sessionStorage: {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, text: string) => kept.set(key, text),
    removeItem: (key: string) => kept.delete(key),
  },
  document: Object.assign(new EventTarget(), { visibilityState: 'visible' }),
})
const asked: string[] = []
let answer: Answer = () => new Response(null, { status: 500 })
globalThis.fetch = async (url, init) => {
  const path = String(url).replace('/api/v1/', '')
  asked.push(path)
  return answer(path, init?.signal ?? AbortSignal.any([]))
}

const load = (name: string) => import(new URL(`../../src/web/${name}`, import.meta.url).href)
const api = await load('api.ts')
const live = await load('live.ts')
const store = await load('fleet-store.ts')

const message = (id: number): string =>
  `id: ${id}\ndata: ${JSON.stringify({ id, node: `n${id}`, kind: 'x' })}\n\n`
const json = (value: unknown, status = 200): Response => Response.json(value, { status })

/** A stream that stays open until it is left. */
function stream(text: string, signal: AbortSignal, end = false): Response {
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(text))
      if (end) controller.close()
      else signal.addEventListener('abort', () => controller.error(signal.reason))
    },
  })
  return new Response(body)
}

async function until(happened: () => boolean): Promise<void> {
  while (!happened()) await turn()
}

t.beforeEach(() => {
  asked.length = 0
})

t.test('a page that came back goes on hearing, however many events follow', async (t) => {
  const left: AbortSignal[] = []
  const streams: Answer[] = [
    (_path, signal) => stream(message(1), signal, true),
    (_path, signal) => {
      left.push(signal)
      return stream(Array.from({ length: 2001 }, (_, n) => message(n + 2)).join(''), signal)
    },
    (_path, signal) => stream(message(5000), signal),
  ]
  answer = (path, signal) => streams.shift()?.(path, signal) ?? json({}, 500)
  const heard: number[] = []
  let gaps = 0
  const end = live.listen({ onEvent: ({ id }: { id: number }) => heard.push(id), onGap: () => gaps++ })
  live.startLive()
  await until(() => heard.length === 1)
  window.dispatchEvent(new Event('online')) // ends the pause
  await until(() => heard.at(-1) === 5000)
  t.strictSame(asked, ['events/stream', 'events/stream?after=1', 'events/stream'])
  t.equal(gaps, 3, 'and looks at everything, since it passed some over')
  t.equal(left[0]?.aborted, true, 'the stream that it left is closed')
  live.stopLive()
  let state = ''
  end()
  live.listen({ onState: (next: string) => (state = next) })()
  t.equal(state, 'connecting', 'not live any more')
})

/** Timers that go off when they are told to; they are kept by how long they would take. */
function holdTimers(t: Test): { readonly delays: number[]; next(): void; readonly waiting: () => number } {
  const delays: number[] = []
  const timers = new Map<object, () => void>()
  const set = (work: () => void, delay: number): object => {
    delays.push(delay)
    const timer = {}
    timers.set(timer, work)
    return timer
  }
  t.intercept(globalThis, 'setTimeout', { value: set })
  t.intercept(globalThis, 'clearTimeout', { value: (timer: object) => timers.delete(timer) })
  return {
    delays,
    waiting: () => timers.size,
    next() {
      const [first] = timers
      if (first === undefined) return
      timers.delete(first[0])
      first[1]()
    },
  }
}

t.test(
  'a fleet that cannot be asked is asked less and less often, and not at all by who is signed out',
  async (t) => {
    const timers = holdTimers(t)
    answer = () => json({}, 503)
    store.startFleet()
    for (let failed = 0; failed < 6; failed += 1) {
      const before = timers.delays.length
      timers.next()
      await until(() => timers.delays.length > before)
    }
    t.strictSame(
      timers.delays.map((delay) => Math.round(delay / 1000)),
      [0, 2, 4, 8, 16, 30, 30],
    )
    let signedOut = 0
    api.whenSignedOut(() => {
      signedOut += 1
      store.stopFleet()
    })
    answer = () => json({}, 401)
    timers.next()
    await until(() => signedOut === 1)
    await turn()
    t.equal(timers.waiting(), 0, 'each question would count as an attempt to get in')
    const seen: boolean[] = []
    store.watchFleet(({ loading }: { loading: boolean }) => seen.push(loading))()
    t.strictSame(seen, [true], 'nothing of the one before is shown')

    answer = () => json({ nodes: [], more: false })
    store.startFleet()
    store.startFleet()
    timers.next()
    await turn()
    await turn()
    t.equal(asked.length, 8, 'who signs in again asks once')
    store.stopFleet()
  },
)

t.test('an answer to who one was before takes no token away', async (t) => {
  let answerLate: (late: Response) => void = () => undefined
  let signedOut = 0
  api.whenSignedOut(() => {
    signedOut += 1
  })
  answer = () => new Promise<Response>((resolve) => (answerLate = resolve))
  const late = api.get('overview')
  api.useToken('fresh')
  answerLate(json({}, 401))
  await t.rejects(late, /status 401/)
  t.equal(signedOut, 0)
  answer = () => json({}, 401)
  await t.rejects(api.get('overview'), /status 401/)
  t.equal(signedOut, 1)
})
