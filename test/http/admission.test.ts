import t, { type Test } from 'tap'
import type { WorkKind } from '../../src/domain/load.ts'
import { isPawlError } from '../../src/errors.ts'
import { type Admission, type AdmissionLimits, openAdmission } from '../../src/http/admission.ts'
import { openFairQueue } from '../../src/http/fair-queue.ts'
import { openRates } from '../../src/http/rates.ts'
import { openSchedule } from '../../src/http/retry-schedule.ts'
import { openSites } from '../../src/http/sites.ts'
import { openToldToWait } from '../../src/http/told-to-wait.ts'

interface World {
  readonly admission: Admission
  /** Who was let in, in that order. */
  readonly begun: string[]
  /** Who was sent away, with the seconds of Retry-After. */
  readonly away: [string, number][]
  /** Asks; the name says kind, site and number. */
  ask(kind: WorkKind, site: string, name: string): void
  /** Ends the work of one that was let in. */
  done(name: string): Promise<void>
  /** The client of one who waits hangs up. */
  hangUp(name: string): void
  clock: number
  lag: number
}

const few: AdmissionLimits = {
  maxBootWork: 1,
  maxBootQueue: 10,
  maxBootWaitSeconds: 15,
  maxRetryAfterSeconds: 120,
  maxDownloads: 4,
  maxDownloadsPerSession: 2,
}

/** A row that assumes fifty a second. */
const atFifty = { now: () => 0, random: () => 0.5, maxSeconds: 120, shareForReturning: 0.8 }

function world(limits: Partial<AdmissionLimits> = {}): World {
  const ends = new Map<string, () => void>()
  const gone = new Map<string, () => void>()
  const self = { clock: 0, lag: 0, begun: [] as string[], away: [] as [string, number][] }
  const admission = openAdmission({
    limits: { ...few, ...limits },
    now: () => self.clock,
    random: () => 0.5,
    lagSeconds: () => self.lag,
  })
  return Object.assign(self, {
    admission,
    ask(kind: WorkKind, site: string, name: string) {
      const onGone = (leave: () => void): (() => void) => {
        gone.set(name, leave)
        return () => gone.delete(name)
      }
      admission.enter({ kind, site, onGone }).then(
        (over) => {
          self.begun.push(name)
          ends.set(name, over)
        },
        (error: unknown) => {
          if (!isPawlError(error, 'overloaded')) throw error
          self.away.push([name, error.retryAfterSeconds ?? Number.NaN])
        },
      )
    },
    async done(name: string) {
      ends.get(name)?.()
      await settled()
    },
    hangUp: (name: string) => gone.get(name)?.(),
  })
}

/** What is resolved has been told. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** The sweep runs on a timer of its own. */
async function swept(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 20))
}

/** Ends the work of who was let in last, until nobody waits. */
async function drain(t: Test, { admission, begun, done }: World): Promise<void> {
  while (admission.stats().waiting > 0) {
    const before = begun.length
    await done(begun.at(-1) ?? '')
    t.equal(begun.length, before + 1, 'each that ends makes room for one')
  }
}

t.test('who comes beyond the bound waits, and is let in when another is done', async (t) => {
  const w = world({ maxBootWork: 2 })
  for (const name of ['a', 'b', 'c']) w.ask('new', 'site', name)
  await settled()
  t.same(w.begun, ['a', 'b'])
  t.match(w.admission.stats(), { working: 2, waiting: 1, sites: 1 })
  await w.done('a')
  await w.done('a')
  t.same(w.begun, ['a', 'b', 'c'], 'one that ends twice makes room once')
  t.match(w.admission.stats(), { working: 2, waiting: 0, admitted: 3, waited: 1 })
})

t.test('finishing goes before beginning, and a report before both', async (t) => {
  const w = world()
  w.ask('new', 'x', 'first')
  for (const [kind, name] of [
    ['new', 'stage 1'],
    ['running', 'stage 2'],
    ['report', 'report'],
  ] as const)
    w.ask(kind, 'x', name)
  await settled()
  await drain(t, w)
  t.same(w.begun, ['first', 'report', 'stage 2', 'stage 1'])
})

t.test(
  'a flood of tokens does not stop new boots: who was passed over eight times has its turn',
  async (t) => {
    const w = world({ maxBootQueue: 100 })
    w.ask('running', 'flood', 'first')
    w.ask('new', 'site', 'stage 1')
    for (let n = 1; n <= 30; n += 1) w.ask('running', 'flood', `token ${n}`)
    await settled()
    await drain(t, w)
    t.equal(w.begun.indexOf('stage 1'), 9)
  },
)

t.test('reports have every second turn at most: made-up ones do not keep boots waiting', async (t) => {
  const w = world({ maxBootQueue: 100 })
  w.ask('running', 'flood', 'first')
  for (let n = 1; n <= 30; n += 1) w.ask('report', 'flood', `report ${n}`)
  for (let n = 1; n <= 9; n += 1) w.ask('running', 'site', `stage ${n}`)
  w.ask('new', 'site', 'stage 1')
  await settled()
  await drain(t, w)
  t.same(w.begun.slice(0, 6), ['first', 'report 1', 'stage 1', 'report 2', 'stage 2', 'report 3'])
  t.equal(w.begun.indexOf('stage 9'), 20, 'nine of running and one of new within twenty turns')
  t.equal(w.begun.at(-1), 'report 30')
})

t.test('sites take turns: one of fifty machines does not keep one of four waiting', async (t) => {
  const w = world({ maxBootQueue: 100 })
  w.ask('new', 'large', 'first')
  for (let n = 1; n <= 50; n += 1) w.ask('new', 'large', `large ${n}`)
  for (let n = 1; n <= 4; n += 1) w.ask('new', 'small', `small ${n}`)
  await settled()
  await drain(t, w)
  t.same(w.begun.slice(0, 9), [
    'first',
    'large 1',
    'small 1',
    'large 2',
    'small 2',
    'large 3',
    'small 3',
    'large 4',
    'small 4',
  ])
})

t.test('a full queue sends away the newest of the site of which most wait', async (t) => {
  const w = world({ maxBootQueue: 3 })
  w.ask('new', 'large', 'first')
  for (let n = 1; n <= 4; n += 1) w.ask('new', 'large', `large ${n}`)
  await settled()
  t.same(
    w.away.map(([name]) => name),
    ['large 4'],
    'beyond the bound',
  )
  w.ask('new', 'small', 'small 1')
  await settled()
  t.same(
    w.away.map(([name]) => name),
    ['large 4', 'large 3'],
    'at the cost of the large site',
  )
  w.ask('running', 'large', 'stage 2')
  await settled()
  t.same(
    w.away.map(([name]) => name),
    ['large 4', 'large 3', 'large 2'],
    'new boots before running ones',
  )
  t.equal(w.admission.stats().waiting, 3)
  t.match(w.admission.stats(), {
    toldToWait: 3,
    toldToWaitBy: { new: 3, running: 0, report: 0, download: 0 },
  })
})

t.test('a flood that fills the queue takes no room from what others ask for', async (t) => {
  for (const flood of ['running', 'download', 'new'] as const) {
    const w = world({ maxBootQueue: 20 })
    w.ask('running', 'flood', 'first')
    w.ask('download', 'flood', 'first download')
    for (let n = 1; n <= 30; n += 1) w.ask(flood, 'flood', `${n}`)
    for (const kind of ['new', 'running', 'download'] as const) w.ask(kind, 'site', kind)
    for (let n = 31; n <= 60; n += 1) w.ask(flood, 'flood', `${n}`)
    await settled()
    const away = w.away.map(([name]) => name)
    t.same(
      away.filter((name) => Number.isNaN(Number(name))),
      [],
      `nobody else is sent away for ${flood}`,
    )
    t.equal(away.length, 43)
    t.equal(w.admission.stats().waiting, 20)
    w.clock = 1 // downloads stand still
    while (w.admission.stats().waiting > 0) for (const name of w.begun) await w.done(name)
    for (const kind of ['new', 'running', 'download']) t.ok(w.begun.includes(kind), `${kind} of another site`)
  }
})

t.test(
  'of a full queue a stage 1 gives way to what finishes a boot, of a site that has as many',
  async (t) => {
    const w = world({ maxBootQueue: 4 })
    w.ask('new', 'first', 'first')
    for (const name of ['new 1', 'new 2']) w.ask('new', 'a', name)
    for (const name of ['stage 2', 'stage 3']) w.ask('running', 'b', name)
    w.ask('running', 'b', 'join')
    w.ask('running', 'b', 'one more')
    w.ask('new', 'c', 'another')
    await settled()
    t.same(
      w.away.map(([name]) => name),
      ['new 2', 'one more', 'join'],
      'as long as it has not fewer',
    )
  },
)

t.test(
  'a flood of made-up reports has a bound, and takes no room from boots or from reports of others',
  async (t) => {
    const w = world({ maxBootQueue: 10 })
    w.ask('new', 'site', 'first')
    for (let n = 1; n <= 20_000; n += 1) w.ask('report', 'flood', `${n}`)
    await settled()
    t.same(w.away, [])
    w.ask('report', 'flood', 'one more')
    w.ask('report', 'site', 'report')
    w.ask('running', 'site', 'stage 2')
    await settled()
    t.same(
      w.away.map(([name]) => name),
      ['one more', '20000'],
      'of the site that has most',
    )
    t.equal(w.admission.stats().toldToWaitBy.report, 2)
    t.equal(w.admission.stats().waiting, 20_001)
  },
)

t.test('reports of all machines are never sent away, however long they wait', async (t) => {
  const w = world({ maxBootQueue: 0 })
  w.ask('new', 'x', 'first')
  for (let n = 1; n <= 500; n += 1) w.ask('report', 'x', `report ${n}`)
  w.ask('new', 'x', 'another')
  w.clock = 1000
  await settled()
  t.same(
    w.away.map(([name]) => name),
    ['another'],
  )
  t.equal(w.admission.stats().waiting, 500)
  t.match(w.admission.stats(), { longestWaitSeconds: 1000 })
})

t.test('nobody waits longer than the bound; who would is told at once', async (t) => {
  const w = world({ maxBootWaitSeconds: 1 })
  w.ask('new', 'x', 'first')
  w.ask('new', 'x', 'second')
  await settled()
  w.clock = 2
  await swept(() => w.away.length > 0)
  t.same(
    w.away.map(([name]) => name),
    ['second'],
  )
  t.equal(w.admission.stats().waiting, 0)
  // Two a second are served: that is measured while others wait.
  for (let n = 1; n <= 4; n += 1) w.ask('new', 'x', `measured ${n}`)
  await settled()
  for (const name of ['first', 'measured 1', 'measured 2']) {
    await w.done(name)
    w.clock += 0.5
  }
  t.equal(w.admission.stats().servedPerSecond, 2)
  w.ask('new', 'x', 'fourth')
  w.ask('new', 'x', 'fifth')
  w.ask('new', 'x', 'sixth')
  await settled()
  t.same(w.away.map(([name]) => name).slice(1), ['fifth', 'sixth'], 'two are served in a second, not three')
})

t.test('who hangs up leaves its place, and is not counted as sent away', async (t) => {
  const w = world()
  w.ask('new', 'x', 'first')
  w.ask('new', 'x', 'gone')
  w.ask('new', 'x', 'stays')
  await settled()
  w.hangUp('gone')
  w.hangUp('gone')
  await w.done('first')
  t.same(w.begun, ['first', 'stays'])
  t.match(w.admission.stats(), { waiting: 0, toldToWait: 0 })
})

t.test('opening downloads and stages of boots that have begun do not keep each other waiting', async (t) => {
  const w = world()
  w.ask('download', 'x', 'download 1')
  w.ask('download', 'x', 'download 2')
  w.ask('running', 'x', 'stage 2')
  await settled()
  t.same(w.begun, ['download 1', 'stage 2'])
  await w.done('download 1')
  t.same(w.begun, ['download 1', 'stage 2', 'download 2'])
})

t.test('a boot begins when no download waits, or for sixteen that were opened', async (t) => {
  const w = world({ maxBootQueue: 100 })
  for (let n = 0; n <= 40; n += 1) w.ask('download', 'x', `download ${n}`)
  w.ask('new', 'x', 'first')
  w.ask('new', 'x', 'second')
  w.ask('new', 'x', 'third')
  await settled()
  for (let n = 0; n <= 39; n += 1) {
    await w.done(`download ${n}`)
    await w.done('first')
    await w.done('second')
  }
  t.equal(w.begun.indexOf('first'), 16)
  t.equal(w.begun.indexOf('second'), 16 + 1 + 16)
  t.same(w.begun.slice(-2), ['download 40', 'third'], 'the last when none waits any more')
})

t.test('downloads that stand still keep no boot from beginning', async (t) => {
  const w = world()
  w.ask('download', 'x', 'of a slow store')
  w.ask('download', 'x', 'another')
  w.ask('new', 'x', 'first')
  await settled()
  t.same(w.begun, ['of a slow store'])
  w.clock = 0.6
  w.ask('new', 'x', 'second')
  await swept(() => w.begun.length > 1)
  await w.done('first')
  t.same(w.begun, ['of a slow store', 'first', 'second'])
})

t.test('a new boot waits two seconds at most, and others as long as the setting says', async (t) => {
  const w = world()
  w.ask('running', 'x', 'first')
  w.ask('running', 'x', 'stage 2')
  w.ask('new', 'x', 'stage 1')
  await settled()
  w.clock = 2
  await swept(() => w.away.length > 0)
  t.same(
    w.away.map(([name]) => name),
    ['stage 1'],
  )
  await w.done('first')
  t.same(w.begun, ['first', 'stage 2'])
})

t.test('boots are told to come as fast as boots are served, not requests', async (t) => {
  let now = 0
  const rates = openRates({ now: () => now, random: () => 1, maxSeconds: 120 })
  t.equal(rates.inAll(), null)
  const serve = (kind: WorkKind, perSecond: number): void => {
    for (let n = 0; n <= perSecond; n += 1) {
      rates.served(kind, true)
      now += 1 / perSecond
    }
  }
  serve('running', 256)
  t.equal(Math.round(rates.perSecond('download') ?? 0), 256)
  t.equal(rates.perSecond('new'), undefined)
  serve('new', 4)
  t.equal(rates.perSecond('new'), 4)
  t.equal(Math.round(rates.inAll() ?? 0), 260)
  // A boot has twelve requests behind its first: 21 a second can begin, and a quarter more may ask.
  t.equal(rates.comeAgain('new', 'x', 0, 800), Math.ceil(800 / (1.25 * (256 / 12))))
  t.equal(rates.comeAgain('download', 'x', 0, 800), Math.ceil(800 / (0.8 * 256)))
})

t.test('an hour in which nobody boots is no slow hour', async (t) => {
  let now = 0
  const schedule = openSchedule({ ...atFifty, now: () => now })
  schedule.served(true) // and who waited hung up: their power went
  now = 3600
  for (let n = 0; n <= 20; n += 1) {
    schedule.served(true)
    if (n < 10) t.equal(schedule.servedPerSecond(), undefined)
    now += 0.1
  }
  t.equal(Math.round(schedule.servedPerSecond() ?? 0), 10)
})

t.test('a rate of a standstill is not believed where more is served, though nobody waits', async (t) => {
  let now = 0
  const schedule = openSchedule({ ...atFifty, now: () => now })
  schedule.served(true)
  now = 30 // the database stood still
  schedule.served(true)
  t.equal(schedule.servedPerSecond(), 1 / 30)
  t.equal(schedule.comeAgain('x', 0), 40)
  // Nobody may wait at that rate, so nobody does.
  for (let n = 0; n <= 210; n += 1) {
    schedule.served(false)
    now += 0.005
  }
  t.equal(Math.round(schedule.servedPerSecond() ?? 0), 200)
  t.equal(schedule.comeAgain('y', 0), 3, 'and it is soon told so')
  for (let n = 0; n <= 2; n += 1) {
    schedule.served(false)
    now += 1
  }
  t.equal(Math.round(schedule.servedPerSecond() ?? 0), 200, 'that few come is no rate')
})

t.test(
  'who was sent away before comes among the others that were, and makes their row no longer',
  async (t) => {
    const at = (random: number) => openSchedule({ ...atFifty, random: () => random })
    const [early, middle, late] = [at(0), at(0.5), at(1)]
    for (const [again, expected] of [
      [1, [2, 2, 2]],
      [1000, [2, 14, 25]],
      [4000, [2, 51, 100]],
      [400_000, [2, 105, 120]],
    ] as const)
      t.same(
        [early, middle, late].map((row) => row.comeAgain('x', 0, again)),
        expected,
        `of ${again}`,
      )
    t.equal(middle.comeAgain('x', 0), 3, 'the first in the row')
    t.equal(middle.comeAgain('y', 0, 1000), 26, 'of another site, which has half of the rate')
  },
)

/** A download as one sees it from outside. */
function download(address: string, session?: string) {
  const seen = { sent: 0, cuts: 0 }
  return Object.assign(seen, {
    of: {
      ...{ address, site: 'x', session, sent: () => seen.sent },
      cut() {
        seen.cuts += 1
      },
    },
  })
}

t.test('downloads are bounded: in all, of one session, and of one address half of them', async (t) => {
  const { admission } = world()
  const begin = (address: string, session?: string): (() => void) =>
    admission.beginDownload(download(address, session).of)
  const refused = { code: 'overloaded' }
  const over = begin('192.0.2.1', 's1')
  begin('192.0.2.1')
  t.throws(() => begin('192.0.2.1'), refused, 'two of four for one address')
  over()
  over()
  begin('192.0.2.2', 's1')
  begin('192.0.2.1', 's1')
  t.throws(() => begin('192.0.2.3', 's1'), refused, 'two for one session')
  begin('192.0.2.3', 's2')
  t.throws(() => begin('192.0.2.4', 's3'), refused, 'four in all')
  t.match(admission.stats(), { downloads: 4, toldToWaitBy: { download: 3 } })
})

t.test('addresses of one site that find no place for a download push no other site back', async (t) => {
  const w = world({ maxBootQueue: 0 })
  for (const address of ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'])
    w.admission.beginDownload(download(address).of)
  for (let n = 0; n < 1000; n += 1)
    t.throws(() => w.admission.beginDownload(download(`2001:db8::${n.toString(16)}:0:0:0:0/64`).of))
  w.ask('running', 'site', 'first')
  w.ask('running', 'site', 'second')
  await settled()
  t.same(w.away, [['second', 3]])
})

t.test('where all places are taken, who has moved no byte for ten seconds makes room', async (t) => {
  const w = world()
  const taken = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'].map((address) => download(address))
  const ends = taken.map(({ of }) => w.admission.beginDownload(of))
  const ask = (): boolean => {
    try {
      w.admission.beginDownload(download('198.51.100.1').of)
      return true
    } catch {
      return false
    }
  }
  const cuts = (): number[] => taken.map(({ cuts }) => cuts)
  const [stalled, slow, , gone] = taken
  for (const one of taken) one.sent = 65_536
  w.clock = 5
  t.notOk(ask(), 'each has moved since it began')
  w.clock = 14.9
  for (const one of taken) if (one !== stalled && one !== gone) one.sent += 1
  t.notOk(ask())
  t.same(cuts(), [0, 0, 0, 0])
  w.clock = 15
  t.notOk(ask(), 'it is looked again after a second')
  w.clock = 16
  if (slow !== undefined) slow.sent += 1
  t.notOk(ask(), 'the connection is to end first')
  t.same(cuts(), [1, 0, 0, 1])
  ends[0]?.()
  t.ok(ask())
  t.match(w.admission.stats(), { downloads: 4 })
})

t.test('a process that is late begins less at a time', async (t) => {
  const w = world({ maxBootWork: 64, maxBootQueue: 100 })
  w.lag = 0.3
  for (let n = 1; n <= 64; n += 1) w.ask('new', 'x', `${n}`)
  await settled()
  t.equal(w.begun.length, 32)
  w.lag = 1
  for (let n = 1; n <= 16; n += 1) await w.done(`${n}`)
  t.equal(w.begun.length, 32, 'beyond a second a quarter')
  await w.done('17')
  t.equal(w.begun.length, 33)
  w.lag = 0
  await w.done('18')
  t.equal(w.begun.length, 64, 'and takes up the others when it is not')
})

t.test('Retry-After grows with how many were sent away, and each site has a row of its own', async (t) => {
  let now = 0
  const schedule = openSchedule({ ...atFifty, now: () => now, random: () => 0.5 })
  const times = Array.from({ length: 1000 }, () => schedule.comeAgain('large', 5000))
  t.equal(times[0], 101, 'behind the queue, at the 50 a second that are assumed')
  t.equal(times[999], 90 + 15, 'never longer than the bound, and then spread before it')
  t.equal(schedule.comeAgain('small', 0), 3, 'another site is not pushed back')
  now = 1000
  t.equal(schedule.comeAgain('large', 0), 3, 'what is over is forgotten')
})

t.test('those that were sent away come back as fast as they can be served, and not together', async (t) => {
  let now = 0
  const schedule = openSchedule({ ...atFifty, now: () => now, random: Math.random })
  for (let n = 0; n < 400; n += 1) {
    now += 0.005
    schedule.served(true)
  }
  t.equal(Math.round(schedule.servedPerSecond() ?? 0), 200)
  const perSecond = new Map<number, number>()
  for (let n = 0; n < 8000; n += 1) {
    const second = schedule.comeAgain('site', 0)
    perSecond.set(second, (perSecond.get(second) ?? 0) + 1)
  }
  const counts = [...perSecond.values()]
  t.equal(
    counts.reduce((sum, count) => sum + count, 0),
    8000,
  )
  t.ok(Math.max(...counts) < 300, `at most ${Math.max(...counts)} in one second`)
  t.ok(perSecond.size > 40, `over ${perSecond.size} seconds`)
  now += 61
  t.equal(schedule.servedPerSecond(), undefined, 'what was measured is old in a minute')
})

t.test('a queue keeps no place of who left, and knows the newest of the largest site', async (t) => {
  const queue = openFairQueue<number>()
  const places = [1, 2, 3].map((n) => queue.push('a', n))
  queue.push('b', 4)
  t.match(queue.largest(), { site: 'a', length: 3, newest: { item: 3 } })
  for (const place of [places[1], places[1], places[2]]) if (place !== undefined) queue.leave(place)
  t.same([queue.length(), queue.lengthOf('a'), queue.sites()], [2, 1, 2])
  t.same(
    queue.oldest().map(({ item }) => item),
    [1, 4],
  )
  t.same([queue.take(), queue.take(), queue.take()], [1, 4, undefined])
  t.equal(queue.largest(), undefined)
})

t.test('a site is the prefix of the source, or the label of a node that was served from there', async (t) => {
  const sites = openSites(() => 0)
  t.equal(sites.siteOf('192.0.2.7'), '192.0.2.0/24')
  t.equal(sites.siteOf('2001:db8:1:2::3'), '2001:db8:1::/48')
  t.equal(sites.siteOf('unknown'), 'unknown')
  sites.noteServed('192.0.2.7', 'mlab1')
  sites.noteServed('198.51.100.1', 'mlab1')
  sites.noteServed('203.0.113.9', 'mlab2')
  t.same(sites.takeNodes(), ['mlab1', 'mlab2'])
  sites.learn({ mlab1: 'lga' })
  t.equal(sites.siteOf('192.0.2.200'), 'site lga')
  t.equal(sites.siteOf('198.51.100.9'), 'site lga', 'a site may have several prefixes, and one turn')
  t.equal(sites.siteOf('203.0.113.9'), '203.0.113.0/24', 'a node without the label')
  t.same(sites.takeNodes(), [])
  sites.noteServed('192.0.2.129', 'mlab1')
  t.same(sites.takeNodes(), [], 'known for a while')
})

t.test('who is served while labels are asked for is asked for next', (t) => {
  const sites = openSites(() => 0)
  sites.noteServed('192.0.2.7', 'mlab1')
  t.same(sites.takeNodes(), ['mlab1'])
  sites.noteServed('203.0.113.9', 'mlab2')
  sites.learn({ mlab1: 'lga' })
  t.same(sites.takeNodes(), ['mlab2'])
  t.same(sites.takeNodes(), ['mlab2'], 'until there is an answer')
  sites.learn({ mlab2: 'ams' })
  t.equal(sites.siteOf('203.0.113.1'), 'site ams')
  t.equal(sites.siteOf('192.0.2.1'), 'site lga')
  t.end()
})

t.test('an overload is told twice: when it begins, and when it is over', async (t) => {
  let now = new Date('2026-11-21T06:00:00.000Z')
  const told = openToldToWait(() => now)
  const tell = (node: string | undefined): void =>
    told.note({ node, site: 'x', request: 'stage1.ipxe', source: '192.0.2.1', seconds: 30 })
  t.same(told.takeSpells(), [])
  tell('mlab1')
  tell('mlab1')
  tell(undefined)
  t.same(told.takeSpells(), [{ since: '2026-11-21T06:00:00.000Z', until: null, times: 3 }])
  t.same(told.takeSpells(), [])
  t.match(told.stats(), {
    overloadedSince: '2026-11-21T06:00:00.000Z',
    nodesWaiting: 1,
    nodes: [{ node: 'mlab1', request: 'stage1.ipxe', times: 2, until: '2026-11-21T06:00:30.000Z' }],
  })
  now = new Date('2026-11-21T06:01:00.000Z')
  t.same(told.takeSpells(), [
    { since: '2026-11-21T06:00:00.000Z', until: '2026-11-21T06:00:00.000Z', times: 3 },
  ])
  t.match(told.stats(), { overloadedSince: null, nodesWaiting: 1 })
  t.same(
    [told.waitingWith('mlab1', 'x'), told.waitingWith('mlab2', 'x')],
    [1, undefined],
    'who comes again, of how many',
  )
  told.came('mlab1')
  t.match(told.stats(), { nodesWaiting: 0, nodes: [] })
  told.note({
    node: 'mlab1',
    site: 'x',
    request: 'join',
    source: '192.0.2.1',
    seconds: 30,
    why: 'its cluster is down',
  })
  told.came('mlab1')
  const { nodesWaiting, nodes, overloadedSince } = told.stats()
  t.match([nodesWaiting, overloadedSince], [0, null], 'a join that waits for its cluster is no overload')
  t.match(nodes, [{ node: 'mlab1', why: 'its cluster is down' }], 'and asking again ends no such wait')
  t.same(told.takeSpells(), [])
  told.served('mlab1')
  t.same(told.stats().nodes, [])
  for (let n = 0; n < 30_000; n += 1) tell(`node-${n}`)
  t.equal(told.stats().nodesWaiting, 20_000, 'made-up names push out the oldest, and no more')
  t.equal(told.stats().nodes.length, 300)
  now = new Date('2026-11-21T07:00:00.000Z')
  t.equal(told.stats().nodesWaiting, 0, 'who does not come does not wait any more')
})
