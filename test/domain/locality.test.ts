import t from 'tap'
import { namedInOrder } from '../../src/domain/locality.ts'

const at = (milliseconds: number): Date => new Date(Date.UTC(2026, 10, 22, 12) + milliseconds)
const name = (random: Uint8Array, milliseconds: number): string =>
  Buffer.from(namedInOrder(random, at(milliseconds))).toString('hex')

t.test('names of one tick begin alike, and the next tick is the next number', async (t) => {
  const random = new Uint8Array(33).map((_, index) => 255 - index)
  const first = name(random, 0)
  t.equal(name(random, 15), first)
  t.equal(
    Number.parseInt(name(random, 16).slice(0, 6), 16),
    (Number.parseInt(first.slice(0, 6), 16) + 1) % 2 ** 24,
  )
  for (const [milliseconds, expected] of [
    [0, '000000'],
    [16 * 0xff, '0000ff'],
    [16 * 0x100, '000100'],
    [16 * 0xabcdef, 'abcdef'],
    [16 * 0x1000000, '000000'],
    [16 * 0x1000001, '000001'],
  ] as const)
    t.equal(
      Buffer.from(namedInOrder(random, new Date(milliseconds)).subarray(0, 3)).toString('hex'),
      expected,
    )
})

t.test('all behind the time is as random as it came, and what came is not changed', async (t) => {
  const random = new Uint8Array(33).map((_, index) => index * 7)
  const before = Buffer.from(random).toString('hex')
  t.equal(name(random, 1234).slice(6), before.slice(6))
  t.equal(Buffer.from(random).toString('hex'), before)
})
