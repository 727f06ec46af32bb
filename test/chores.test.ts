import { mock } from 'node:test'
import t from 'tap'
import { startTimers } from '../src/chores.ts'

t.test('a chore that takes longer than its time is not begun beside itself', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const errors: string[] = []
  let begun = 0
  let end = Promise.withResolvers<void>()
  const work = (): Promise<void> => {
    begun += 1
    return end.promise
  }
  const log = { error: (_about: unknown, words?: string) => void errors.push(words ?? '') }
  const stop = startTimers([{ what: 'looking', everyMilliseconds: 1000, work }], log as never, () => true)
  mock.timers.tick(3000)
  t.equal(begun, 1)
  end.reject(new Error('away'))
  await new Promise((resolve) => setImmediate(resolve))
  t.same(errors, ['looking failed'])
  end = Promise.withResolvers<void>()
  mock.timers.tick(1000)
  t.equal(begun, 2, 'one that failed is tried again in its time')
  let over = false
  const stopped = stop().then(() => {
    over = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(over, false, 'what is under way still asks the database')
  end.resolve()
  await stopped
  mock.timers.tick(3000)
  t.equal(begun, 2, 'and none is begun')
})

t.test('what one of all servers does is left to the leader', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const did: string[] = []
  const chore = (what: string, once: object) => ({
    ...{ what, everyMilliseconds: 1000, ...once },
    work: async () => void did.push(what),
  })
  let isLeader = false
  const all = [chore('all', {}), chore('leader', { once: true })]
  const stop = startTimers(all, { error() {} } as never, () => isLeader)
  mock.timers.tick(1000)
  t.same(did, ['all'])
  isLeader = true
  await new Promise((resolve) => setImmediate(resolve))
  mock.timers.tick(1000)
  t.same(did, ['all', 'all', 'leader'])
  await stop()
})
