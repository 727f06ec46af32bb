import t, { type Test } from 'tap'
import { openPacketCache } from '../../src/tftp/blocks.ts'
import { parsePacket } from '../../src/tftp/packet.ts'
import {
  ackedBytes,
  onAck,
  onExpectedAck,
  onTime,
  openTransfer,
  repeatFirst,
  type Step,
  type Transfer,
  type TransferPlan,
} from '../../src/tftp/transfer.ts'
import { seeded } from '../helpers/seeded.ts'

const plan: TransferPlan = {
  fileBytes: 5000,
  blockSize: 1000,
  windowSize: 1,
  hasOack: true,
  giveUpMilliseconds: 30_000,
}
const blocks = (first: number, last = first): Step => ({ kind: 'blocks', first, last })
const waits: Step = { kind: 'wait' }

/** What comes at which time, and what is done then. */
type Line = [at: number, what: 'time' | 'again' | number, step: Step]

function play(t: Test, of: Partial<TransferPlan>, first: Step, lines: readonly Line[]): Transfer {
  const { transfer, step } = openTransfer({ ...plan, ...of }, 0)
  t.same(step, first, 'at first')
  for (const [at, what, expected] of lines) {
    const done =
      what === 'time'
        ? onTime(transfer, at)
        : what === 'again'
          ? repeatFirst(transfer)
          : onAck(transfer, what, at)
    t.same(done, expected, `${at} ms, ${what === 'time' || what === 'again' ? what : `ACK ${what}`}`)
  }
  return transfer
}

t.test('refuses to be moved by an ACK that is not of what was sent', async (t) => {
  const transfer = play(t, {}, { kind: 'oack' }, [
    [1, 1, waits],
    [1, 65_535, waits],
    [2, 0, blocks(1)],
    [3, 2, waits],
    [3, 65_535, waits],
    [3, 3, waits],
    [4, 1, blocks(2)],
    [5, 1, waits],
    [5, 0, waits],
    [6, 2, blocks(3)],
  ])
  t.equal(ackedBytes(transfer), 2000)
})

t.test('a repeated ACK does not make blocks come twice (Sorcerer’s Apprentice)', async (t) => {
  play(t, {}, { kind: 'oack' }, [
    [1, 0, blocks(1)],
    [2, 0, waits],
    [3, 1, blocks(2)],
    [4, 1, waits],
    [5, 1, waits],
    [6, 2, blocks(3)],
  ])
})

t.test('a file that fills its last block ends with an empty one', async (t) => {
  const sizes: [bytes: number, total: number][] = [
    [0, 1],
    [999, 1],
    [1000, 2],
    [1001, 2],
    [2000, 3],
  ]
  for (const [fileBytes, total] of sizes)
    t.equal(openTransfer({ ...plan, fileBytes }, 0).transfer.total, total)
  const transfer = play(t, { fileBytes: 1000, hasOack: false }, blocks(1), [
    [1, 1, blocks(2)],
    [2, 2, { kind: 'done' }],
  ])
  t.equal(ackedBytes(transfer), 1000)
})

t.test('sends block 0 after block 65535, and counts on', async (t) => {
  const { transfer } = openTransfer({ ...plan, fileBytes: 8 * 200_000, blockSize: 8, hasOack: false }, 0)
  let step: Step = waits
  for (let block = 1; block <= 200_001; block += 1) {
    step = onAck(transfer, block & 0xffff, block)
    if (block === 65_535) t.same(step, blocks(65_536))
    if (block === 131_071) t.same(step, blocks(131_072))
  }
  t.same(step, { kind: 'done' })
})

t.test('a window is sent at once; a gap in it sends from there', async (t) => {
  const of = { fileBytes: 40_000, windowSize: 4 }
  play(t, of, { kind: 'oack' }, [
    [10, 0, blocks(1, 4)],
    [20, 4, blocks(5, 8)],
    [30, 6, blocks(7, 10)], // 7 was lost
    [40, 10, blocks(11, 14)],
    [50, 10, blocks(11, 14)], // 11 was lost
    [51, 10, waits], // once for each place
    [60, 14, blocks(15, 18)],
    [60, 14, waits], // faster than any answer: it was on its way before
    [70, 18, blocks(19, 22)],
  ])
})

t.test('the last window is as long as what is left', async (t) => {
  play(t, { windowSize: 4 }, { kind: 'oack' }, [
    [1, 0, blocks(1, 4)],
    [2, 4, blocks(5, 6)],
    [3, 6, { kind: 'done' }],
  ])
})

t.test('who never answers gets two repeats and no more', async (t) => {
  play(t, {}, { kind: 'oack' }, [
    [999, 'time', waits],
    [1000, 'time', { kind: 'oack' }],
    [2999, 'time', waits],
    [3000, 'time', { kind: 'oack' }],
    [6999, 'time', waits],
    [7000, 'time', { kind: 'given-up', why: 'unanswered' }],
  ])
  play(t, { hasOack: false, windowSize: 1 }, blocks(1), [
    [1000, 'time', blocks(1)],
    [3000, 'time', blocks(1)],
    [7000, 'time', { kind: 'given-up', why: 'unanswered' }],
  ])
})

t.test('the same request again gets the first packet again, until it is answered', async (t) => {
  play(t, {}, { kind: 'oack' }, [
    [500, 'again', { kind: 'oack' }],
    [600, 0, blocks(1)],
    [700, 'again', waits],
  ])
})

t.test(
  'waits by the round trip as measured, twice as long after each silence, up to 5 s, and gives up',
  async (t) => {
    const { transfer } = openTransfer(plan, 0)
    onAck(transfer, 0, 100) // 100 ms, deviation 50: 300 ms
    const sent: number[] = []
    let end: Step = waits
    for (let at = 100; end.kind !== 'given-up'; at += 10) {
      const step = onTime(transfer, at)
      if (step.kind === 'blocks') sent.push(at)
      if (step.kind === 'given-up') end = step
    }
    t.same(sent, [400, 1000, 2200, 4600, 9400, 14_400, 19_400, 24_400, 29_400])
    t.same(end, { kind: 'given-up', why: 'silent' })
  },
)

t.test(
  'an answer to what was sent twice is no measurement, unless it answers the second at once',
  async (t) => {
    const { transfer } = openTransfer(plan, 0)
    onAck(transfer, 0, 10)
    t.equal(transfer.deadline, 10 + 30)
    t.same(onTime(transfer, 40), blocks(1))
    t.equal(transfer.deadline, 40 + 60, 'doubled')
    onAck(transfer, 1, 95)
    t.equal(transfer.deadline, 95 + 60, 'this may have been the answer to the first: it stays doubled')
    onAck(transfer, 2, 135)
    t.equal(transfer.deadline, 135 + 58.75, 'this is a measurement: 40 ms')
    onTime(transfer, 300)
    onAck(transfer, 3, 310)
    t.equal(transfer.silences, 0, 'this came so fast that it answers the second')
  },
)

t.test('the time that a client asked for is the longest wait, and the first', async (t) => {
  const { transfer } = openTransfer({ ...plan, timeoutSeconds: 3 }, 0)
  t.equal(transfer.deadline, 3000)
  onAck(transfer, 0, 10)
  t.equal(transfer.deadline, 40)
  for (let at = 40; at < 20_000; at += 10) onTime(transfer, at)
  t.ok(transfer.deadline - transfer.sentAt === 3000)
})

t.test('when all was sent, a last ACK that does not come is soon given up', async (t) => {
  const { transfer } = openTransfer({ ...plan, fileBytes: 10 }, 0)
  onAck(transfer, 0, 10)
  let step: Step = waits
  let at = 10
  for (; step.kind !== 'given-up'; at += 10) step = onTime(transfer, at)
  t.same(step, { kind: 'given-up', why: 'unconfirmed' })
  t.ok(at < 15_000, `${at} ms`)
})

/** A link that loses, doubles and delays, with a client of RFC 1350 and 7440 behind it; time is simulated. */
function simulate(
  seed: number,
  of: TransferPlan,
  file: Buffer,
  loss: number,
): { got: Buffer; milliseconds: number; end: string } {
  const random = seeded(seed)
  const queue: { at: number; run: () => void }[] = []
  let now = 0
  let end = ''
  const carry = (run: () => void): void => {
    if (random() < loss) return
    const times = random() < loss ? 2 : 1
    for (let i = 0; i < times; i += 1)
      queue.push({ at: now + 0.2 + random() * (random() < loss ? 20 : 1), run })
  }
  const packets = openPacketCache(2 ** 24).packetsOf({ name: 'file', bytes: file }, of.blockSize)
  const { transfer, step } = openTransfer(of, 0)
  const parts: Uint8Array[] = []
  let got = 0
  let inWindow = 0
  let askedFor = -1
  let heardAt = 0
  let isDone = false
  const acknowledge = (): void => {
    inWindow = 0
    const block = got & 0xffff
    carry(() => perform(onAck(transfer, block, now)))
  }
  const receive = (bytes: Uint8Array): void => {
    const packet = parsePacket(bytes)
    if (packet.kind !== 'data') throw new Error('not DATA')
    heardAt = now
    if (packet.block !== ((got + 1) & 0xffff)) {
      if (askedFor !== got || packet.block === (got & 0xffff)) acknowledge()
      askedFor = got
      return
    }
    got += 1
    inWindow += 1
    parts.push(packet.payload)
    isDone = packet.payload.length < of.blockSize
    if (isDone || inWindow >= of.windowSize) acknowledge()
  }
  function perform(done: Step): void {
    if (end !== '') return
    if (done.kind === 'oack') carry(() => got === 0 && acknowledge())
    if (done.kind === 'blocks')
      for (let block = done.first; block <= done.last; block += 1) {
        const bytes = packets.at(block)
        carry(() => receive(bytes))
      }
    if (done.kind === 'done') end = 'done'
    if (done.kind === 'given-up') end = done.why
  }
  perform(step)
  while (end === '' && now < 600_000) {
    queue.sort((a, b) => b.at - a.at)
    const next = queue.at(-1)
    // The client asks again once a second; the request itself too, while nothing has come.
    const until = Math.min(transfer.deadline, heardAt + 1000)
    if (next !== undefined && next.at <= until) {
      queue.pop()
      now = next.at
      next.run()
    } else {
      now = until
      perform(onTime(transfer, now))
      if (now >= heardAt + 1000) {
        heardAt = now
        if (transfer.answered) acknowledge()
        else perform(repeatFirst(transfer))
      }
    }
  }
  return { got: Buffer.concat(parts), milliseconds: now, end }
}

t.test(
  'through loss, doubling and reordering every byte arrives, at every block and window size',
  async (t) => {
    const file = Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 7919) >> 3))
    let runs = 0
    for (const blockSize of [8, 512, 1468, 8192, 65_464]) {
      for (const windowSize of [1, 2, 7, 16, 64]) {
        for (const hasOack of windowSize === 1 && blockSize === 512 ? [true, false] : [true]) {
          for (const loss of [0, 0.01, 0.05, 0.2]) {
            for (let seed = 1; seed <= (blockSize === 8 ? 1 : 6); seed += 1) {
              const fileBytes = seed % 3 === 0 ? blockSize * 4 : Math.min(file.length, 20_000 + seed * 997)
              const bytes = file.subarray(0, blockSize === 8 ? 3000 + seed : fileBytes)
              const of = { ...plan, fileBytes: bytes.length, blockSize, windowSize, hasOack }
              const { got, end } = simulate(seed, of, bytes, loss)
              runs += 1
              // The last ACK may be lost for ever: the client is gone. It never acknowledges what it does not have.
              const isRight = got.equals(bytes) && (end === 'done' || end === 'unconfirmed')
              const isAbsent = end === 'unanswered' && loss > 0
              if (!isRight && !isAbsent)
                t.fail(`block ${blockSize}, window ${windowSize}, loss ${loss}, seed ${seed}: ${end}`)
            }
          }
        }
      }
    }
    t.ok(runs > 400, `${runs} transfers`)
  },
)

t.test('1 MB at 5 % loss takes seconds, not minutes', async (t) => {
  const file = Buffer.alloc(2 ** 20, 7)
  for (const [blockSize, windowSize] of [
    [512, 1],
    [1468, 1],
    [1468, 4],
    [8192, 16],
  ] as const) {
    const of = { ...plan, fileBytes: file.length, blockSize, windowSize }
    const { got, milliseconds, end } = simulate(5, of, file, 0.05)
    t.equal(end, 'done')
    t.ok(got.equals(file))
    t.ok(milliseconds < 20_000, `${blockSize}/${windowSize}: ${Math.round(milliseconds)} ms`)
  }
})

t.test(
  'the short way of an ACK that is expected decides what the long one does, and leaves all else to it',
  async (t) => {
    let short = 0
    for (let seed = 1; seed <= 60; seed += 1) {
      const random = seeded(seed)
      const of = {
        ...plan,
        windowSize: seed % 5 === 0 ? 4 : 1,
        hasOack: seed % 2 === 0,
        fileBytes: 60_000 * (seed % 3),
      }
      const { transfer: long } = openTransfer(of, 0)
      const { transfer: mixed } = openTransfer(of, 0)
      let at = 0
      for (let turn = 0; turn < 200; turn += 1) {
        at += random() * (random() < 0.05 ? 2000 : 20)
        const block = random() < 0.8 ? long.sent : Math.floor(random() * 70)
        const isTime = random() < 0.2
        const next = isTime ? 0 : onExpectedAck(mixed, block & 0xffff, at)
        if (next > 0) short += 1
        const step = isTime ? onTime(mixed, at) : next > 0 ? blocks(next) : onAck(mixed, block & 0xffff, at)
        t.same(
          step,
          isTime ? onTime(long, at) : onAck(long, block & 0xffff, at),
          `seed ${seed}, turn ${turn}`,
        )
        t.same(mixed, long, `seed ${seed}, turn ${turn}: where it stands`)
        if (step.kind === 'done' || step.kind === 'given-up') break
      }
    }
    t.ok(short > 500, `${short} went the short way`)
  },
)
