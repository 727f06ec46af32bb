import t from 'tap'
import { openNews } from '../../src/storage/news.ts'

t.test('words of one moment are one message, and nobody hears himself', async (t) => {
  const sent: string[] = []
  const heard: unknown[] = []
  const a = openNews('a', async (text) => sent.push(text))
  const b = openNews('b', async () => {})
  for (const news of [a, b]) news.hear('session-ended', (words) => heard.push(words))
  for (const word of ['one', 'two', 'one']) a.tell('session-ended', word)
  await a.close()
  t.same(sent, ['{"from":"a","topic":"session-ended","words":["one","two"]}'])
  for (const text of sent) for (const news of [a, b]) news.heard(text)
  t.same(heard, [['one', 'two']])
  a.tell('session-ended', 'late')
  t.equal(sent.length, 1, 'a closed one tells nothing')
})

t.test('what no Pawl said is passed over', async (t) => {
  const news = openNews('a')
  const heard: unknown[] = []
  news.hear('session-ended', (words) => heard.push(words))
  const strange = ['', '{', 'null', '[]', '{"from":"b","topic":"session-ended","words":[1]}']
  for (const text of [...strange, '{"from":"b","topic":"other","words":["x"]}', '{"topic":"session-ended"}'])
    news.heard(text)
  t.same(heard, [])
  news.missed()
  t.same(heard, [undefined], 'behind a gap everyone looks for himself')
})

t.test('a message fits; more than can be told one by one is told as one word', async (t) => {
  const sent: string[] = []
  const news = openNews('a', async (text) => sent.push(text))
  for (let i = 0; i < 5000; i += 1) news.tell('session-ended', `session-${i}`)
  await news.close()
  t.ok(sent.length > 5 && sent.every((text) => Buffer.byteLength(text) < 8000))
  t.equal(sent.flatMap((text) => JSON.parse(text).words).length, 5000)
  const flood: string[] = []
  const flooded = openNews('a', async (text) => flood.push(text))
  for (let i = 0; i < 5001; i += 1) flooded.tell('session-ended', `session-${i}`)
  await flooded.close()
  t.same(flood, ['{"from":"a","topic":"session-ended","words":null}'])
})

t.test('what could not be told because the database was away is told later', async (t) => {
  const sent: string[] = []
  let away = true
  const news = openNews('a', async (text) => {
    if (away) throw new Error('away')
    sent.push(text)
  })
  news.tell('session-ended', 'one')
  t.teardown(() => news.close())
  await new Promise((resolve) => setTimeout(resolve, 60))
  away = false
  while (sent.length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  t.same(sent, ['{"from":"a","topic":"session-ended","words":["one"]}'])
})
