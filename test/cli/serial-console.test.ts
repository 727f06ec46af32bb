import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type ConsoleLimits, SerialConsole } from '../../src/cli/image-test/serial-console.ts'

function open(t: Test, limits?: ConsoleLimits) {
  const file = join(t.testdir({}), 'console.log')
  const console = new SerialConsole(file, limits)
  t.teardown(() => console.end())
  return { console, print: (text: string) => console.add(Buffer.from(text)) }
}

t.test('takes no more than its file may hold', async (t) => {
  const { console, print } = open(t, { textCharacters: 4, fileBytes: 10 })
  t.same([print('12345678'), print('90'), print('x'), print('y')], [true, true, false, false])
  t.notMatch(console.text(), /x|y/)
  console.end()
  await t.rejects(console.waitFor('x', 10, 'm'), /machine m: x not printed before the machine ended/)
})

t.test('keeps the end of what is printed, and whoever waits sees all that passes by', async (t) => {
  const { console, print } = open(t, { textCharacters: 1000, fileBytes: 2 ** 20 })
  const seen = console.waitFor(/^needle \d+/m, 10, 'm')
  let [position, all] = [0, '']
  const follow = () => {
    const news = console.since(position)
    position = news.position
    all += news.text
  }
  for (let number = 0; number < 2000; number += 1) {
    print(number === 500 ? 'needle 7 of hay\n' : 'y\n')
    follow()
  }
  t.equal(await seen, 'needle 7 of hay')
  t.ok(console.text().length <= 2000, 'the text is bounded')
  t.notMatch(console.text(), /needle/)
  t.equal(all, `${'y\n'.repeat(500)}needle 7 of hay\n${'y\n'.repeat(1499)}`)
})

t.test('control codes are removed where they come in pieces too', async (t) => {
  const { console, print } = open(t)
  for (const piece of 'a\u001b[1;31mb\u001b(Bc\r\n\u001b[2Jd') print(piece)
  t.equal(console.text(), 'abc\nd')
})

t.test('a line and a prompt are found when they come in pieces', async (t) => {
  const { console, print } = open(t)
  const line = console.waitFor('login', 10, 'm')
  for (const piece of ['one\nno', 'de lo', 'gin: ro', 'ot\n']) print(piece)
  t.equal(await line, 'node login: root')
})
