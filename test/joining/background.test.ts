import t from 'tap'
import { openBackground } from '../../src/joining/joining.ts'

t.test('work that is asked for while other work is under way is begun once, behind it', async (t) => {
  const errors: unknown[] = []
  const background = openBackground((error) => errors.push(error))
  const first = Promise.withResolvers<void>()
  const begun: string[] = []
  const work =
    (name: string, until: Promise<void> = Promise.resolve()) =>
    async () => {
      begun.push(name)
      await until
    }
  background.inBackground(work('first', first.promise))
  await Promise.resolve()
  for (const name of ['second', 'third', 'fourth']) background.inBackground(work(name))
  t.same(begun, ['first'])
  first.resolve()
  await background.settled()
  t.same(begun, ['first', 'fourth'])
  background.inBackground(work('later'))
  await background.settled()
  t.same(begun, ['first', 'fourth', 'later'])
  t.same(errors, [])
})

t.test('the next round is begun whatever became of this one', async (t) => {
  const faults: Record<string, () => Promise<unknown>> = {
    fails: async () => {
      throw new Error('this round')
    },
    throws: () => {
      throw new Error('this round')
    },
  }
  for (const [how, fault] of Object.entries(faults)) {
    const errors: string[] = []
    const background = openBackground((error) => errors.push(String(error)))
    const begun: string[] = []
    background.inBackground(() => {
      background.inBackground(async () => begun.push('next'))
      return fault()
    })
    await background.settled()
    t.same(begun, ['next'], how)
    t.same(errors, ['Error: this round'], how)
  }
})

t.test('work that is asked for at the very end of a round is begun', async (t) => {
  const background = openBackground(() => {})
  const begun: string[] = []
  const ask = (): void => background.inBackground(async () => begun.push('next'))
  // Behind each of the steps in which a round ends, one after the other.
  for (let steps = 0; steps < 12; steps += 1) {
    background.inBackground(async () => {})
    for (let at = 0; at < steps; at += 1) await Promise.resolve()
    ask()
    await background.settled()
    t.equal(begun.length, steps + 1, `${steps} steps later`)
  }
})

t.test('the next round is begun although the error of this one could not be told', async (t) => {
  const background = openBackground(() => {
    throw new Error('the log is full')
  })
  const begun: string[] = []
  background.inBackground(async () => {
    background.inBackground(async () => begun.push('next'))
    throw new Error('this round')
  })
  await background.settled()
  t.same(begun, ['next'])
  background.inBackground(async () => begun.push('later'))
  await background.settled()
  t.same(begun, ['next', 'later'])
})
