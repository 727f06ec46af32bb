import t from 'tap'
import { type LargeBody, openLargeBodies } from '../../src/http/large-bodies.ts'

interface World {
  /** Begins to send; false where there is no room. */
  send(site: string, name: string, bytes?: number): boolean
  readonly body: (name: string) => LargeBody
  readonly away: string[]
}

function world(total: number): World {
  const bodies = openLargeBodies({ total })
  const taken = new Map<string, LargeBody>()
  const away: string[] = []
  return {
    away,
    send(site, name, bytes = 10) {
      const body = bodies.take(site, bytes, () => away.push(name))
      if (body !== undefined) taken.set(name, body)
      return body !== undefined
    },
    body: (name) => taken.get(name) as LargeBody, // the test has sent it
  }
}

t.test('a site that fills the room gives way to others, its last body first', (t) => {
  const { send, away } = world(40)
  for (const name of ['1', '2', '3', '4']) t.ok(send('large', name))
  t.notOk(send('large', '5'), 'not to itself')
  t.ok(send('small', 'a'))
  t.ok(send('other', 'b'))
  t.same(away, ['4', '3'])
  t.notOk(send('small', 'c'), 'two, one and one: nobody has more than it would have')
  t.same(away, ['4', '3'])
  t.end()
})

t.test('a body that needs the room of several has it', (t) => {
  const { send, away } = world(40)
  for (const name of ['1', '2', '3', '4']) send('large', name)
  t.ok(send('small', 'a', 25))
  t.same(away, ['4', '3', '2'])
  t.end()
})

t.test('what is worked on gives way to nobody, and holds its room until it is over', (t) => {
  const { send, away, body } = world(30)
  for (const name of ['1', '2', '3']) send('large', name)
  for (const name of ['1', '2', '3']) body(name).begun()
  t.notOk(send('small', 'a'))
  body('2').over()
  body('2').over()
  t.ok(send('small', 'b'), 'one that is over twice makes room once')
  t.notOk(send('small', 'c'))
  t.same(away, [])
  t.end()
})
