import pino from 'pino'
import t, { type Test } from 'tap'
import type { BootStory, StorySteps } from '../../src/boot/story.ts'
import { openTransfers } from '../../src/boot/transfers.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { PawlError } from '../../src/errors.ts'
import { answerAsk } from '../../src/workers/answer.ts'
import type { FromKeeper, FromWorker } from '../../src/workers/messages.ts'
import { packError, unpackError } from '../../src/workers/packed-error.ts'
import {
  type AskLimits,
  askedSteps,
  askLimits,
  openAsker,
  remoteRefusals,
} from '../../src/workers/remote-story.ts'
import { openWire, type Pipe } from '../../src/workers/wire.ts'

/** Two ends of a channel that keeps what it carries as the real one does: as a structured clone. */
function channel(): { here: Pipe; there: Pipe; carried: unknown[] } {
  const listeners: ((message: unknown) => void)[][] = [[], []]
  const carried: unknown[] = []
  const end = (own: number): Pipe => ({
    send(message, done) {
      carried.push(message)
      const copy = structuredClone(message)
      setImmediate(() => {
        for (const listener of listeners[1 - own] ?? []) listener(copy)
        done()
      })
    },
    onMessage: (listener) => void listeners[own]?.push(listener),
  })
  return { here: end(0), there: end(1), carried }
}

interface Remote {
  readonly story: BootStory
  readonly carried: unknown[]
  readonly waiting: () => number
}

/** A story that is answered at the other end by `steps`; those that are left out never answer. */
function remote(
  t: Test,
  steps: Partial<StorySteps>,
  { now = () => 0, limits = askLimits }: { now?: () => number; limits?: AskLimits } = {},
): Remote {
  const { here, there, carried } = channel()
  const never = (): Promise<never> => new Promise(() => {})
  const all = {
    ...Object.fromEntries(askedSteps.map((step) => [step, never])),
    ...steps,
  } as unknown as StorySteps // every step is in it
  const log = pino({ level: 'silent' })
  const keeper = openWire<FromKeeper<never>, FromWorker>(there, (message) => {
    if (message.kind === 'ask')
      void answerAsk({ story: () => all, log }, message).then((answer) => keeper.send(answer))
    else if (message.kind === 'handshake-failed') all.handshakeFailed(message.fault)
  })
  const wire = openWire<FromWorker, FromKeeper<never>>(here, (message) => void asker.take(message))
  const asker = openAsker(wire, now, limits)
  t.teardown(asker.close)
  const story = asker.story('main', { transfers: openTransfers(), clock: () => new Date(0) })
  return { story, carried, waiting: asker.waiting }
}

// Its own timer keeps no process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

const asking = { host: 'node1', source: '192.0.2.1', request: 'stage2' }
const redemption = { ...asking, stage: 'stage2' as const, token: 'a', key: 'b' }

t.test('an error is the same error at the other end, without what nobody there may know', async (t) => {
  const errors = [
    new PawlError('too-many-boots', 'wait', { retryAfterSeconds: 40, hint: 'later', internal: 'x' }),
    new PawlError('invalid', 'no'),
    new Refusal('spent-token', { node: 'node1', session: 's' }),
  ]
  for (const error of errors) {
    const found = unpackError(structuredClone(packError(error)))
    t.match(found, {
      name: error.name,
      code: error.code,
      message: error.message,
      hint: error.hint,
      internal: error.internal,
      retryAfterSeconds: error.retryAfterSeconds,
      ...(error instanceof Refusal ? { why: error.why } : {}),
    })
    t.equal(found instanceof Refusal, error instanceof Refusal)
  }
  t.notMatch(JSON.stringify(packError(new Error('a secret in a driver’s words'))), /secret/)
})

t.test('a step fails as it does here, and one that breaks is no answer of ours', async (t) => {
  const { story } = remote(t, {
    redeem: async () => {
      throw new Refusal('other-key', {})
    },
    handover: async () => {
      throw new TypeError('broken')
    },
  })
  await t.rejects(story.redeem(redemption), { code: 'refused', why: 'other-key' })
  const broken = await story.handover({ ...asking, token: undefined }).catch((error: unknown) => error)
  t.notOk(broken instanceof PawlError, 'answered as 500, like any fault of ours')
})

t.test('what is asked beyond the bound is sent away, and what takes too long is given up', async (t) => {
  let now = 0
  const limits = { maxWaiting: 3, waitMilliseconds: 1000, maxTold: 1 }
  const { story, waiting } = remote(t, {}, { now: () => now, limits })
  const asked = [1, 2, 3].map(() => story.redeem(redemption))
  await t.rejects(story.redeem(redemption), { code: 'overloaded' })
  t.equal(waiting(), 3)
  now = 1001
  for (const one of asked) await t.rejects(one, { code: 'overloaded', message: /too long/ })
  t.equal(waiting(), 0, 'there is room again')
})

t.test('arguments and answers are carried whole, many in one message', async (t) => {
  const seen: unknown[] = []
  const { story, carried } = remote(t, {
    stage1: async (request) => {
      seen.push(request)
      return undefined
    },
    openSignature: async () => new Uint8Array([1, 2, 255]),
    redirectDownload: async (_download, { bytes }) => `https://example.test/${bytes}`,
  })
  const request = { ...asking, fields: { serial: 'a', odd: ['x', 'y'] }, format: 'ipxe' as const }
  const asked = Array.from({ length: 20 }, () => story.stage1(request))
  t.same(new Set(await Promise.all(asked)), new Set([undefined]))
  t.same(seen[0], request)
  t.equal(carried.length, 2, 'twenty questions in one message, twenty answers in another')
  t.same([...(await story.openSignature({ ...asking, role: 'kernel', capability: 'c' }))], [1, 2, 255])
  const download = { session: 's' } as unknown as Parameters<BootStory['redirectDownload']>[0]
  t.equal(await story.redirectDownload(download, { bytes: 7, source: '-' }), 'https://example.test/7')
})

t.test('tales of failed handshakes are left out while the keeper does not keep up', async (t) => {
  let told = 0
  const limits = { ...askLimits, maxTold: 5 }
  const { story } = remote(
    t,
    {
      handshakeFailed: () => {
        told += 1
      },
      mayTransfer: async () => true,
    },
    { limits },
  )
  for (let i = 0; i < 50; i += 1) story.handshakeFailed({ cause: 'failed', source: '-', detail: {} })
  const download = { session: 's' } as unknown as Parameters<BootStory['mayTransfer']>[0]
  await story.mayTransfer(download) // asked behind them
  t.equal(told, 5)
})

t.test('refusals are left out, and counted, while the keeper does not keep up', async (t) => {
  const { here, there } = channel()
  let taken = 0
  openWire<never, FromWorker>(there, () => {
    taken += 1
  })
  const wire = openWire<FromWorker, never>(here, () => {})
  const refusals = remoteRefusals(wire, { maxTold: 5 })
  const facts = {
    kind: 'refused',
    cause: 'no-token',
    node: null,
    session: null,
    source: null,
    detail: {},
  } as const
  for (let i = 0; i < 50; i += 1) refusals.record(facts)
  await wire.flushed()
  t.same([taken, refusals.dropped()], [5, 45])
  refusals.record(facts)
  await wire.flushed()
  t.same([taken, refusals.dropped()], [6, 45])
})

t.test('what no channel can carry is lost alone, and ends no process', async (t) => {
  let clock = 0
  const { story, waiting } = remote(
    t,
    { mayTransfer: async () => true },
    { now: () => clock, limits: { ...askLimits, waitMilliseconds: 100 } },
  )
  const lost = story.mayTransfer({ session: () => 's' } as never) // a function is nothing that goes to another process
  t.equal(await story.mayTransfer({ session: 's' } as never), true)
  clock = 1000
  await t.rejects(lost, { code: 'overloaded' })
  t.equal(waiting(), 0)
})
