import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { sharedLook } from '../../src/http/shared-look.ts'

t.test('one look for all who ask at a time, none of before, and a pause between', async (t) => {
  let now = 1000
  let looks = 0
  let done: (() => void) | undefined
  const waits: number[] = []
  const begin: (() => void)[] = []
  const time = {
    now: () => now,
    wait: (milliseconds: number) => {
      waits.push(milliseconds)
      return new Promise<void>((resolve) => begin.push(resolve))
    },
  }
  const ask = sharedLook(async () => {
    looks += 1
    const mine = looks
    await new Promise<void>((resolve) => {
      done = resolve
    })
    if (mine === 2) throw new Error('the database is away')
    return mine
  }, time)

  const first = [ask(), ask(), ask()]
  await turn()
  begin.shift()?.()
  await turn()
  const late = [ask(), ask()]
  now += 200
  done?.()
  t.strictSame(await Promise.all(first), [1, 1, 1])
  t.equal(looks, 1)
  await turn()
  begin.shift()?.()
  await turn()
  done?.()
  for (const one of late) await t.rejects(one, /away/, 'who asked behind its beginning gets another')
  const last = ask()
  await turn()
  begin.shift()?.()
  await turn()
  done?.()
  t.equal(await last, 3, 'one that failed is not kept')
  t.strictSame(waits, [0, 800, 0])
})
