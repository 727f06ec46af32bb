import fc from 'fast-check'
import t from 'tap'
import { parseChannelRef, parseImageSource, parseVersionFor } from '../../src/domain/channel.ts'
import {
  judge,
  placeInRollout,
  planWaves,
  type RolloutPlan,
  type WaveCounts,
} from '../../src/domain/rollout.ts'

t.test('refuses what names no channel', async (t) => {
  for (const text of [
    '',
    'a',
    '/',
    'a/',
    '/b',
    'a/b/c',
    'A/b',
    'a/B',
    'a/..',
    '../b',
    'a@1/b',
    'a b/c',
    'a/b\n',
  ])
    t.throws(() => parseChannelRef(text), { code: 'invalid' }, JSON.stringify(text))
  for (const text of ['', 'a', 'a@', 'a@1@2', 'a/b@1', 'a@1/b'])
    t.throws(() => parseImageSource(text), { code: 'invalid' }, JSON.stringify(text))
})

t.test('reads a version for a channel, with or without its own name', async (t) => {
  const channel = parseChannelRef('worker/stable')
  t.equal(parseVersionFor(channel, '2026.11'), '2026.11')
  t.equal(parseVersionFor(channel, 'worker@2026.11'), '2026.11')
  for (const text of ['other@2026.11', 'worker@', 'worker/stable', ''])
    t.throws(() => parseVersionFor(channel, text), { code: 'invalid' }, text)
  t.same(parseImageSource('worker/stable'), { kind: 'channel', name: 'worker', channel: 'stable' })
  t.same(parseImageSource('worker@1'), { kind: 'version', name: 'worker', version: '1' })
})

t.test('refuses waves that are none', async (t) => {
  for (const waves of [
    [],
    ['0'],
    ['0%'],
    ['101%'],
    ['-1'],
    ['1.5'],
    ['half'],
    [''],
    ['50%', '10%'],
    ['10', '5'],
  ])
    t.throws(() => planWaves(waves, 100), { code: 'invalid' }, JSON.stringify(waves))
  t.throws(
    () =>
      planWaves(
        Array.from({ length: 21 }, () => '1'),
        100,
      ),
    { message: /1 to 20 waves, not 21/ },
  )
})

t.test('plans waves for fleets of every size', async (t) => {
  const written = ['1', '10%', '50%', '100%']
  const cases: [number, number[]][] = [
    [1, [1]],
    [2, [1, 2]],
    [3, [1, 2, 3]],
    [10, [1, 5, 10]],
    [11, [1, 2, 6, 11]],
    [1000, [1, 100, 500, 1000]],
    [10_000, [1, 1000, 5000, 10_000]],
  ]
  for (const [total, expected] of cases) {
    t.same(
      planWaves(written, total).map(({ nodes }) => nodes),
      expected,
      `${total} nodes`,
    )
  }
  t.same(planWaves(['5000'], 10), [{ written: '5000', nodes: 10 }], 'never more than there are')
})

const plan: RolloutPlan = {
  waves: planWaves(['1', '10%', '100%'], 1000),
  label: null,
  thresholdPercent: 95,
  minBoots: null,
  maxFailures: null,
  waveTimeoutSeconds: 3600,
}

const own = [1, 99, 900] as const
const earlier = [0, 1, 100] as const

/** How many were ready and failed in a wave, and in those before it; all others wait. */
function counts(wave: 1 | 2 | 3, now: [number, number], before: [number, number] = [0, 0]): WaveCounts {
  const of = (nodes: number, [succeeded, failed]: [number, number]): WaveCounts['wave'] => ({
    waiting: nodes - succeeded - failed,
    booting: 0,
    succeeded,
    failed,
  })
  const [size, sizeBefore] = [own[wave - 1] ?? 0, earlier[wave - 1] ?? 0]
  const both: [number, number] = [now[0] + before[0], now[1] + before[1]]
  return { wave: of(size, now), all: of(size + sizeBefore, both) }
}

t.test('judges a wave by its boots', async (t) => {
  const cases: [string, Partial<RolloutPlan>, number, WaveCounts, string][] = [
    ['the first node has not booted', {}, 1, counts(1, [0, 0]), 'wait'],
    ['the first node failed', {}, 1, counts(1, [0, 1]), 'halt'],
    ['the first node is ready', {}, 1, counts(1, [1, 0]), 'advance'],
    ['fewer than half of wave 2', {}, 2, counts(2, [49, 0], [1, 0]), 'wait'],
    ['half of wave 2', {}, 2, counts(2, [50, 0], [1, 0]), 'advance'],
    ['five of a hundred may fail', {}, 2, counts(2, [95, 5], [1, 0]), 'advance'],
    ['six may not, however many are ready', {}, 2, counts(2, [90, 6], [1, 0]), 'halt'],
    ['failures of earlier waves count', {}, 2, counts(2, [60, 5], [0, 1]), 'halt'],
    ['half of few that failed is not proof enough', { minBoots: 2 }, 2, counts(2, [2, 2], [1, 0]), 'wait'],
    ['no failure at all is allowed', { maxFailures: 0 }, 2, counts(2, [99, 1], [1, 0]), 'halt'],
    [
      'more failures are allowed',
      { maxFailures: 50, thresholdPercent: 50 },
      2,
      counts(2, [50, 49], [1, 0]),
      'advance',
    ],
    ['a minimum above the wave is the wave', { minBoots: 5000 }, 2, counts(2, [99, 0], [1, 0]), 'advance'],
    ['a minimum of 10', { minBoots: 10 }, 2, counts(2, [9, 0], [1, 0]), 'wait'],
    ['the last wave has passed', {}, 3, counts(3, [450, 0], [100, 0]), 'complete'],
  ]
  for (const [what, changes, wave, given, expected] of cases)
    t.equal(judge({ ...plan, ...changes }, wave, given).next, expected, what)
  const none = { waiting: 0, booting: 0, succeeded: 0, failed: 0 }
  const gone = judge(plan, 1, { wave: none, all: none })
  t.match(gone, { next: 'pause', cause: /the nodes of wave 1 were removed/ }, 'nobody has booted it')
  t.equal(judge(plan, 2, { wave: none, all: { ...none, succeeded: 1 } }).next, 'advance', 'somebody has')
  t.match(judge(plan, 1, counts(1, [0, 1])), { cause: '1 of 1 nodes failed, of which 0 may' })
})

t.test('a halted wave never advances by more boots, and none skips the threshold', async () => {
  const some = fc.nat({ max: 100 })
  fc.assert(
    fc.property(some, some, (succeeded, failed) => {
      fc.pre(succeeded + failed <= 99)
      const { next } = judge(plan, 2, counts(2, [succeeded, failed], [1, 0]))
      if (failed > 5) return next === 'halt'
      return next !== 'advance' || (succeeded >= 50 && succeeded / (succeeded + failed) >= 0.95)
    }),
  )
})

t.test('every rollout has its own order, and each server the same', async (t) => {
  const order = (id: string): string[] =>
    Array.from({ length: 100 }, (_, i) => `node${i}`).sort((a, b) =>
      placeInRollout(id, a) < placeInRollout(id, b) ? -1 : 1,
    )
  t.same(order('a'), order('a'))
  t.not(order('a')[0], order('b')[0])
})
