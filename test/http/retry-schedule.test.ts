import t from 'tap'
import type { WorkKind } from '../../src/domain/load.ts'
import { openRates } from '../../src/http/rates.ts'
import { openSchedule } from '../../src/http/retry-schedule.ts'
import { seeded } from '../helpers/seeded.ts'

t.test('whatever happens, Retry-After is whole seconds, one at least and the bound at most', async (t) => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seeded(seed)
    const maxSeconds = 5 + Math.floor(random() * 896)
    let now = random() * 1e6
    const rates = openRates({ now: () => now, random, maxSeconds })
    const kinds: WorkKind[] = ['report', 'running', 'new', 'download']
    for (let step = 0; step < 300; step += 1) {
      const kind = kinds[Math.floor(random() * 4)] ?? 'new'
      // From a tenth of a millisecond to a day; now and then back, which the clock of a process never goes.
      now += 10 ** (random() * 9 - 4) * (random() < 0.02 ? -1 : 1)
      rates.served(kind, random() < 0.7)
      const again = random() < 0.3 ? Math.floor(10 ** (random() * 5)) : undefined
      const site = `site ${Math.floor(random() * 50)}`
      const seconds = rates.comeAgain(kind, site, Math.floor(10 ** (random() * 5)) - 1, again)
      if (!Number.isInteger(seconds) || seconds < 1 || seconds > maxSeconds)
        t.fail(`${seconds} s of ${maxSeconds}, seed ${seed}`)
    }
  }
})

t.test('sites beyond 4,096 share a row; it is as long as it was when others are over', async (t) => {
  let now = 0
  const schedule = openSchedule({
    ...{ now: () => now, random: () => 0.5, maxSeconds: 900, shareForReturning: 1 },
  })
  for (let n = 0; n < 4096; n += 1) schedule.comeAgain(`site ${n}`, 0)
  const first = schedule.comeAgain('one more', 0)
  t.equal(first, Math.ceil(2 + 4097 / 50))
  t.equal(schedule.comeAgain('another', 0), Math.ceil(2 + (2 * 4097) / 50), 'behind the one more')
  t.equal(schedule.comeAgain('site 1', 0), Math.ceil(2 + 2 / 50 + 4097 / 50), 'who has a row keeps it')
  now = 1000
  t.equal(schedule.comeAgain('one more', 0), 3, 'those whose time is over make room')
})

t.test('where a row is as long as it may be, those of it do not come in the same second', async (t) => {
  const random = seeded(7)
  const schedule = openSchedule({ now: () => 0, random, maxSeconds: 120, shareForReturning: 1 })
  const seconds = Array.from({ length: 20_000 }, () => schedule.comeAgain('x', 0))
  const last = seconds.slice(-3000)
  const most = Math.max(...Array.from({ length: 121 }, (_, at) => last.filter((one) => one === at).length))
  t.ok(most < 150, `${most} of 3,000 in one second`)
  t.ok(Math.min(...last) > 89)
})
