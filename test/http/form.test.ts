import { serialize } from 'node:v8'
import t from 'tap'
import { parseBody, parseUrlEncoded } from '../../src/http/form.ts'

t.test(
  'what is nested in a JSON body goes no further: deep enough, it could not go to another process',
  async (t) => {
    const deep = `{"a":${'['.repeat(30_000)}${']'.repeat(30_000)},"b":{"c":1},"d":"x","e":true,"__proto__":"y"}`
    t.throws(() => serialize(JSON.parse(deep)), { name: 'RangeError' }, 'this one could not')
    const fields = await parseBody('application/json', Buffer.from(deep))
    t.same(Object.entries(fields), [
      ['a', []],
      ['b', []],
      ['d', 'x'],
      ['e', true],
      ['__proto__', 'y'],
    ])
    t.ok(serialize(fields).length < 100)
  },
)

t.test('a name given many times is a list, and costs no more than as many names', async (t) => {
  t.same(Object.entries(parseUrlEncoded('a=1&b=2&a=3&a=4')), [
    ['a', ['1', '3', '4']],
    ['b', '2'],
  ])
  const seconds = (text: string): number => {
    const { user } = process.cpuUsage()
    parseUrlEncoded(text)
    return (process.cpuUsage().user - user) / 1e6
  }
  const names = seconds(Array.from({ length: 16_000 }, (_, n) => `a${n}`).join('&'))
  t.ok(
    seconds('a&'.repeat(16_000)) < 50 * Math.max(names, 0.01),
    'the square of it would be 500 times as much',
  )
})
