import t from 'tap'
import { openBandwidth, type Rates } from '../../src/boot/bandwidth.ts'
import { openFinder } from '../../src/boot/open-finder.ts'
import type { Artifact } from '../../src/domain/image.ts'
import { openAccel } from '../../src/http/accel.ts'

/** Time that runs only while all wait. */
function openTime() {
  let now = 0
  const waiting: { readonly at: number; readonly go: () => void }[] = []
  const time = {
    now: () => now,
    wait: (milliseconds: number) => new Promise<void>((go) => waiting.push({ at: now + milliseconds, go })),
  }
  async function runTo(end: number): Promise<void> {
    for (;;) {
      await new Promise(setImmediate)
      const [next] = waiting.sort((a, b) => a.at - b.at)
      if (next === undefined || next.at > end) break
      waiting.shift()
      now = next.at
      next.go()
    }
    now = end
  }
  return { time, runTo }
}

/** Downloads that never end, each by writes of 64 KiB or less; answers what each got in ten seconds. */
async function sendTenSeconds(rates: Rates, nodes: readonly string[]): Promise<number[]> {
  const { time, runTo } = openTime()
  const bandwidth = openBandwidth(rates, time)
  const sent = nodes.map(() => 0)
  let over = false
  nodes.forEach(async (node, n) => {
    const lane = bandwidth.begin(node)
    while (!over) {
      const bytes = Math.min(65_536, lane.most())
      await lane.take(bytes)
      if (time.now() >= 10_000) break
      sent[n] = (sent[n] ?? 0) + bytes
    }
    lane.close()
  })
  await runTo(10_000)
  over = true
  await runTo(20_000)
  t.equal(bandwidth.count(), 0)
  return sent
}

const about = (expected: number, sent: number, part = 0.05) => Math.abs(sent / expected - 1) < part

t.test('all downloads together stay below the total, in equal shares', async (t) => {
  const sent = await sendTenSeconds(
    { total: 10_000_000 },
    Array.from({ length: 40 }, (_, n) => `node${n % 30}`),
  )
  const sum = sent.reduce((a, b) => a + b, 0)
  t.ok(sum <= 10_000_000 * 10.2 && about(100_000_000, sum), `${sum} bytes in 10 s`)
  for (const each of sent) t.ok(about(2_500_000, each, 0.1), `${each}`)
})

t.test('the downloads of one node share its limit, and keep nobody else waiting', async (t) => {
  const rates = { total: 10_000_000, node: 1_000_000 }
  const [a, b, c, d] = await sendTenSeconds(rates, ['one', 'one', 'two', 'three'])
  t.ok(about(10_000_000, (a ?? 0) + (b ?? 0)), `${a} + ${b}`)
  t.ok(about(a ?? 0, b ?? 0, 0.15), 'equal again')
  t.ok(about(10_000_000, c ?? 0) && about(10_000_000, d ?? 0), `${c}, ${d}`)
})

t.test('under a low limit as many as it bears stay fair, and all come to their end', async (t) => {
  const { time, runTo } = openTime()
  const bandwidth = openBandwidth({ total: 1_000_000 }, time)
  const size = 256 * 1024
  const readers = Array.from({ length: 61 }, () => ({ sent: 0, turns: [] as number[] }))
  const downloads = readers.map(async (reader, n) => {
    const lane = bandwidth.begin(`node${n}`)
    while (reader.sent < size) {
      const bytes = Math.min(lane.most(), size - reader.sent)
      await lane.take(bytes)
      reader.sent += bytes
      reader.turns.push(time.now())
    }
    lane.close()
  })
  await runTo(8000)
  const half = readers.map(({ sent }) => sent)
  t.ok(
    Math.max(...half) - Math.min(...half) <= 16_384,
    `${Math.min(...half)} to ${Math.max(...half)} bytes in 8 s`,
  )
  await runTo(20_000)
  await Promise.all(downloads)
  t.equal(bandwidth.count(), 0)
  const last = Math.max(...readers.flatMap(({ turns }) => turns))
  t.ok(about((61 * size) / 1000, last), `the last byte after ${last} ms`)
  for (const { turns } of readers)
    for (const [n, at] of turns.entries()) t.ok(at - (turns[n - 1] ?? 0) <= 1100, 'a turn each second')
})

t.test('who goes away while it waits keeps no place, and nobody else waiting', async (t) => {
  for (const rates of [{ node: 65_536 }, { total: 10_000_000, node: 65_536 }]) {
    const { time, runTo } = openTime()
    const bandwidth = openBandwidth(rates, time)
    for (let n = 0; n < 1000; n += 1) {
      const lane = bandwidth.begin('behind one address')
      void lane.take(65_536)
      lane.close()
    }
    t.equal(bandwidth.count(), 0)
    const lane = bandwidth.begin('behind one address')
    let at: number | undefined
    void lane.take(65_536)?.then(() => {
      at = time.now()
    })
    await runTo(3000)
    t.ok(at !== undefined && at <= 2000, `its turn came after ${at} ms`)
    lane.close()
  }
})

t.test('who ends a download and begins the next gets no more for it', async (t) => {
  const { time, runTo } = openTime()
  const bandwidth = openBandwidth({ node: 1_000_000 }, time)
  let sent = 0
  const again = async () => {
    while (time.now() < 10_000) {
      const lane = bandwidth.begin('node1')
      await lane.take(65_536)
      sent += 65_536
      lane.close()
    }
  }
  const ran = again()
  await runTo(11_000)
  await ran
  t.ok(sent <= 10_400_000, `${sent} bytes in 10 s`)
})

t.test('more downloads than the total bears are told to come again', async (t) => {
  const bandwidth = openBandwidth({ total: 1_000_000 })
  const lanes = Array.from({ length: 61 }, (_, n) => bandwidth.begin(`node${n}`))
  t.throws(() => bandwidth.begin('node99'), { code: 'overloaded' })
  lanes.pop()?.close()
  bandwidth.begin('node99').close()
  t.ok(lanes[0]?.most() === 16_384, 'so many turn by turn that each has one a second')
})

t.test('without limits nobody waits', async (t) => {
  const lane = openBandwidth({}).begin('node1')
  t.strictSame([lane.take(2 ** 30), lane.most()], [undefined, Number.POSITIVE_INFINITY])
})

t.test('an open artifact is asked for once a second, and a change is seen by then', async (t) => {
  let now = new Date('2026-11-21T12:00:00Z')
  let asked = 0
  let answer: (() => Promise<Artifact | undefined>) | undefined
  const artifact = { role: 'kernel' } as Artifact // the finder looks at nothing of it
  const story = {
    clock: () => now,
    findOpenArtifact: async () => {
      asked += 1
      return answer === undefined ? artifact : answer()
    },
  }
  const find = openFinder(story)
  const digest = 'ab'.repeat(32)
  t.strictSame(await Promise.all(Array.from({ length: 100 }, () => find(digest))), Array(100).fill(artifact))
  t.equal(asked, 1)
  answer = async () => undefined
  now = new Date(now.getTime() + 999)
  t.equal(await find(digest), artifact)
  now = new Date(now.getTime() + 1)
  t.equal(await find(digest), undefined, 'the profile keeps it to its sessions now')
  t.equal(asked, 2)
  now = new Date(now.getTime() - 3600_000)
  await find(digest)
  t.equal(asked, 3, 'a clock that was set back keeps nothing')
  answer = () => Promise.reject(new Error('no database'))
  await t.rejects(find('cd'.repeat(32)))
  answer = undefined
  t.equal(await find('cd'.repeat(32)), artifact, 'a failure is not kept')
  for (let n = 0; n < 3000; n += 1) await find(n.toString(16).padStart(64, '0'))
  const before = asked
  await find(digest)
  t.equal(asked, before + 1, 'made-up digests push out, and no more')
})

t.test('only a trusted proxy that says it is nginx is told an internal location', async (t) => {
  const digest = 'ab'.repeat(32) as never // a digest
  const from = (remoteAddress: string | undefined, said: string | undefined) =>
    ({ headers: { 'pawl-accel': said }, raw: { socket: { remoteAddress } } }) as never // all that is looked at
  const accel = openAccel('/pawl-artifacts/', ['192.0.2.0/24', '2001:db8::7/128'])
  for (const address of ['192.0.2.7', '::ffff:192.0.2.7', '2001:db8::7']) {
    t.equal(accel(from(address, 'nginx'), digest), `/pawl-artifacts/sha256/${digest}`, address)
    for (const said of [undefined, '', '1', 'Nginx', '/etc/'])
      t.equal(accel(from(address, said), digest), undefined)
  }
  for (const address of ['192.0.3.7', '2001:db8::8', '127.0.0.1', '', 'x', undefined])
    t.equal(accel(from(address, 'nginx'), digest), undefined, `${address}`)
  t.equal(
    openAccel(undefined, ['192.0.2.0/24'])(from('192.0.2.7', 'nginx'), digest),
    undefined,
    'not configured',
  )
  t.equal(openAccel('/x/', [])(from('192.0.2.7', 'nginx'), digest), undefined, 'nobody is trusted')
})
