import t from 'tap'
import { type defaultSeconds, limitsOf, paceOf } from '../../src/domain/pace.ts'
import { moves, type PaceEvidence, paceReasons, reasonOf } from '../../src/domain/pace-reason.ts'
import { learn, type Sample } from '../../src/domain/usual-times.ts'

const settings = { slowPercent: 150, stuckPercent: 300, stuckSilenceSeconds: 600 }

const of = (node: string, ...seconds: number[]): Sample[] => seconds.map((one) => ({ node, seconds: one }))

t.test('what is usual is learned', (t) => {
  t.equal(learn([]), undefined, 'of nothing, nothing')
  t.equal(learn(of('a', 60, 61, 62, 63)), undefined, 'of four boots, nothing')
  t.same(learn(of('a', 60, 61, 62, 63, 64)), { medianSeconds: 62, p99Seconds: 64, boots: 5 })
  t.same(
    learn(of('a', 60, 61, 62, 63, 64, 9000, 9000, 9000)),
    { medianSeconds: 62, p99Seconds: 64, boots: 5 },
    'of one node the last five only: the newest come first',
  )
  const fleet = Array.from({ length: 40 }, (_, n) => of(`n${n}`, 60 + (n % 10))).flat()
  t.same(learn(fleet), { medianSeconds: 64, p99Seconds: 69, boots: 40 })
  t.equal(learn(of('a', 0, 0, 0, 0, 0))?.medianSeconds, 1, 'not less than a second')
  t.equal(
    learn(of('a', 90_000, 90_000, 90_000, 90_000, 90_000))?.p99Seconds,
    14_400,
    'not more than four hours',
  )
  t.equal(learn(of('a', Number.NaN, -1, 5, 5, 5, 5)), undefined, 'what is no time does not count')
  t.end()
})

t.test('whoever holds a few machines does not draw it out', (t) => {
  const honest = Array.from({ length: 20 }, (_, n) => of(`n${n}`, 60, 62)).flat()
  const clean = learn(honest)
  const five = of('bad', 80_000, 80_000, 80_000, 80_000, 80_000)
  const one = learn([...five, ...honest])
  t.equal(one?.medianSeconds, clean?.medianSeconds, 'a node has one vote')
  t.equal(one?.p99Seconds, 360, 'no boot counts for more than six times the median')
  const many = learn([
    ...Array.from({ length: 9 }, (_, n) => of(`bad${n}`, ...five.map((s) => s.seconds))).flat(),
    ...honest,
  ])
  t.equal(many?.medianSeconds, 60, 'not even by a third of the fleet')
  t.end()
})

t.test('the limits of a stage', (t) => {
  const learned = { medianSeconds: 60, p99Seconds: 100, boots: 50 }
  t.same(limitsOf('stage1', { expected: 20, learned }, settings), {
    usualSeconds: 20,
    slowAfterSeconds: 20,
    stuckAfterSeconds: 60,
    from: 'profile',
  })
  t.same(limitsOf('stage1', { learned }, settings), {
    usualSeconds: 60,
    slowAfterSeconds: 150,
    stuckAfterSeconds: 450,
    from: 'learned',
  })
  t.equal(
    limitsOf('join', { learned: { medianSeconds: 1, p99Seconds: 2, boots: 50 } }, settings).slowAfterSeconds,
    17,
    'a stage of seconds is not slow for a few more',
  )
  for (const [stage, seconds] of Object.entries({ stage1: 600, stage2: 1800, stage3: 900, join: 900 }) as [
    keyof typeof defaultSeconds,
    number,
  ][])
    t.same(limitsOf(stage, {}, settings), {
      usualSeconds: null,
      slowAfterSeconds: seconds,
      stuckAfterSeconds: seconds * 3,
      from: 'default',
    })
  t.end()
})

t.test('usual, slow, stuck', (t) => {
  const limits = { slowAfterSeconds: 100, stuckAfterSeconds: 1000 }
  const cases: [number, number, boolean, string][] = [
    [0, 0, false, 'usual'],
    [100, 100, false, 'usual'],
    [101, 101, false, 'slow'],
    [101, 0, true, 'slow'],
    [700, 599, false, 'slow'],
    [700, 600, false, 'stuck'],
    [1000, 10, false, 'slow'],
    [1001, 10, false, 'stuck'],
    [9000, 10, true, 'slow'],
  ]
  for (const [seconds, silentSeconds, moving, pace] of cases)
    t.equal(
      paceOf({ seconds, silentSeconds, moves: moving }, limits, settings),
      pace,
      `${seconds} s, silent for ${silentSeconds}${moving ? ', moving' : ''}`,
    )
  t.end()
})

const quiet: PaceEvidence = {
  stage: 'stage1',
  elsewhere: false,
  uncounted: false,
  handoverOpened: false,
  bytes: 0,
  totalBytes: 100_000_000,
  seconds: 700,
  silentSeconds: 650,
}
const told = {
  failed: 'no disk',
  refused: 'the token was used before',
  other: '192.0.2.66',
  waitsUntil: '2026-11-21T12:00:00.000Z',
  handshake: 'no common cipher',
  serverSince: '2026-11-21T11:00:00.000Z',
}

t.test('every reason, in the order in which they apply', (t) => {
  const cases: [keyof typeof paceReasons, Partial<PaceEvidence>, string][] = [
    ['another-machine', told, 'another machine came as this node, from 192.0.2.66, and was refused'],
    ['attempt-failed', { ...told, other: undefined }, 'it reported an error and may try again: no disk'],
    [
      'refused',
      { ...told, other: undefined, failed: undefined },
      'it was refused: the token was used before',
    ],
    [
      'join-waits',
      { waitsUntil: told.waitsUntil, joinWaits: 'the Kubernetes API answered 503' },
      'its join waits: the Kubernetes API answered 503',
    ],
    [
      'told-to-wait',
      { waitsUntil: told.waitsUntil, handshake: told.handshake, serverSince: told.serverSince },
      'the server had no room and told it to come again at 2026-11-21T12:00:00.000Z',
    ],
    [
      'handshake-failed',
      { handshake: told.handshake, serverSince: told.serverSince },
      'a TLS handshake from its address failed: no common cipher',
    ],
    [
      'server-away',
      { serverSince: told.serverSince, bytes: 5 },
      'the server was started at 2026-11-21T11:00:00.000Z, after it was last heard of: it was away meanwhile',
    ],
    [
      'elsewhere',
      { elsewhere: true, stage: 'stage2' },
      'nothing was heard since stage2: what it loads and runs there is not served here',
    ],
    [
      'downloading',
      { bytes: 35_000_000, silentSeconds: 60 },
      'its download runs: 35.0 MB of 100.0 MB at 50 kB/s, about 21 min 40 s more',
    ],
    [
      'download-stopped',
      { bytes: 35_000_000 },
      'its download stopped: 35.0 MB of 100.0 MB, none for 10 min 50 s',
    ],
    [
      'kernel-silent',
      { bytes: 100_000_000, silentSeconds: 60 },
      'iPXE has downloaded all it needs; nothing was heard of its kernel for 60 s',
    ],
    [
      'kernel-silent',
      { handoverOpened: true, bytes: 7_000_000 },
      'iPXE has downloaded all it needs; nothing was heard of its kernel for 10 min 50 s',
    ],
    ['firmware-silent', {}, 'nothing was heard since stage 1 was served, 10 min 50 s ago'],
    [
      'firmware-silent',
      { uncounted: true, silentSeconds: 7500 },
      'nothing was heard since stage 1 was served, 2 h 5 min ago; what a cache sent it is not known here',
    ],
    [
      'kexec-silent',
      { stage: 'stage2', bytes: 100_000_000 },
      'the full system was downloaded; nothing was heard since, 10 min 50 s ago',
    ],
    [
      'kexec-silent',
      { stage: 'stage2', bytes: 100_000_000, redirected: true },
      'it was sent to another server for the full system, and how far that has come is not known here; nothing was heard since, 10 min 50 s ago',
    ],
    [
      'minimal-system-silent',
      { stage: 'stage2' },
      'the minimal system runs and has downloaded nothing from here',
    ],
    [
      'full-system-silent',
      { stage: 'stage3', totalBytes: 0 },
      'the full system runs and has its configuration; it has not gone on for 10 min 50 s',
    ],
    ['joining', { stage: 'join', totalBytes: 0 }, 'its join script runs, or hangs, since 11 min 40 s'],
  ]
  for (const [code, evidence, text] of cases) {
    const reason = reasonOf({ ...quiet, ...evidence })
    t.equal(reason.code, code)
    t.equal(reason.text, text, code)
    t.ok(reason.hint.length > 20, `${code} says what to look at`)
  }
  const seen = cases.map(([code]) => code)
  t.same([...new Set(seen)], Object.keys(paceReasons), 'each has a case, in the order of the table')
  t.end()
})

t.test('what moves', (t) => {
  t.equal(moves({ ...quiet, bytes: 1, silentSeconds: 120 }), true)
  t.equal(moves({ ...quiet, bytes: 1, silentSeconds: 121 }), false, 'not for two minutes')
  t.equal(moves({ ...quiet, bytes: 0, silentSeconds: 0 }), false, 'not begun')
  t.equal(moves({ ...quiet, bytes: 100_000_000, silentSeconds: 0 }), false, 'over')
  t.equal(moves({ ...quiet, bytes: 1, silentSeconds: 0, elsewhere: true }), false, 'not ours')
  t.end()
})
