import t from 'tap'
import { judgeLoop, type PastBoot, pauses } from '../../src/domain/loop.ts'

const now = new Date('2026-11-21T12:00:00.000Z')
const settings = { loopStage1s: 3, loopWindowSeconds: 3600, maxStage1PerHour: 20 }
/** `-600`: served so many seconds ago, and nothing heard; `r`: reported; `=`: asked again at once. */
const boots = (text: string): PastBoot[] =>
  text
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => ({
      startedAt: new Date(now.getTime() - Number.parseInt(word.slice(1), 10) * 1000).toISOString(),
      reported: word.endsWith('r'),
      repeated: word.endsWith('='),
    }))
const ago = (seconds: number): string => new Date(now.getTime() - seconds * 1000).toISOString()

t.test('which boots are a loop', (t) => {
  const cases: [string, string, number | null, string | undefined, number][] = [
    ['a node that never booted', '', null, undefined, 0],
    ['two without a report', '-60 -120', null, undefined, 0],
    ['three without a report', '-60 -120 -180', null, 'no-report', 30],
    ['three, of which one is beyond the window', '-60 -120 -3600', null, undefined, 0],
    ['three, the oldest a moment within it', '-60 -120 -3599', null, 'no-report', 30],
    ['a report behind two', '-60 -120 -180r -240 -300', null, undefined, 0],
    ['a report in front of many', '-60r -120 -180 -240 -300', null, undefined, 0],
    ['a report behind three', '-60 -120 -180 -240r', null, 'no-report', 30],
    ['a lost answer is no boot more', '-60= -61 -120', null, undefined, 0],
    ['nor are several', '-60 -61= -62= -120 -121=', null, undefined, 0],
    ['none served since it was found', '-200 -300 -400', 100, 'no-report', 30],
    ['one served since', '-50 -200 -300 -400', 100, 'no-report', 60],
    ['two', '-50 -90 -200 -300 -400', 100, 'no-report', 120],
    ['three', '-50 -90 -95 -200 -300 -400', 100, 'no-report', 240],
    ['four', '-50 -90 -95 -99 -200 -300 -400', 100, 'no-report', 480],
    ['five', '-50 -60 -90 -95 -99 -200 -300 -400', 100, 'no-report', 600],
    ['never longer', '-50 -60 -70 -80 -90 -95 -99 -200 -300 -400', 100, 'no-report', 600],
    ['slow pauses do not hide it', '-4000 -8000 -12000 -16000', 12_000, 'no-report', 240],
    ['silent for longer than window and pause', '-4200 -8000 -12000 -16000', 12_000, undefined, 0],
    ['a report since', '-50r -200 -300 -400', 100, undefined, 0],
  ]
  for (const [what, text, since, why, pauseSeconds] of cases) {
    const judged = judgeLoop(boots(text), { now, loopingSince: since === null ? null : ago(since) }, settings)
    t.equal(judged.why, why, what)
    t.equal(judged.pauseSeconds, pauseSeconds, `${what}: its pause`)
  }
  t.end()
})

t.test('an hour has a limit, whatever comes of its boots', (t) => {
  const successes = (count: number): PastBoot[] =>
    boots(Array.from({ length: count }, (_, index) => `-${60 + index * 60}r`).join(' '))
  const judge = (count: number): [string | undefined, number, number] => {
    const { why, inHour, pauseSeconds } = judgeLoop(successes(count), { now, loopingSince: null }, settings)
    return [why, inHour, pauseSeconds]
  }
  t.same(judge(19), [undefined, 19, 0])
  t.same(judge(20), ['too-many', 20, 30])
  t.same(judge(21), ['too-many', 21, 60])
  t.same(judge(22), ['too-many', 22, 120])
  t.same(judge(40), ['too-many', 40, 600])
  t.same(judge(100), ['too-many', 59, 600], 'of an hour')
  const repeats = boots(Array.from({ length: 20 }, (_, index) => `-${20 + index * 20}=`).join(' '))
  t.equal(
    judgeLoop(repeats, { now, loopingSince: null }, settings).why,
    'too-many',
    'nobody gets by with asking again at once, for ever',
  )
  t.end()
})

t.test('0 turns loops off, and the limit of an hour stays', (t) => {
  const off = { ...settings, loopStage1s: 0 }
  t.equal(judgeLoop(boots('-1 -2 -3 -4 -5'), { now, loopingSince: null }, off).why, undefined)
  t.equal(
    judgeLoop(boots('-1 -2'), { now, loopingSince: null }, { ...off, maxStage1PerHour: 2 }).why,
    'too-many',
  )
  t.end()
})

t.test('pauses grow, and none is longer than iPXE waits by itself', (t) => {
  t.same([...pauses], [30, 60, 120, 240, 480, 600])
  t.end()
})
