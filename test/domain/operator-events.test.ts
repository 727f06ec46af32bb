import t from 'tap'
import { eventKinds } from '../../src/domain/event.ts'
import { operatorEvents, otherEvents, untold } from '../helpers/operator-events.ts'

t.test(
  'of each kind of event it is known whether operators cause it, and what it must say then',
  async (t) => {
    for (const kind of Object.keys(eventKinds)) {
      const rows = Number(kind in operatorEvents) + Number((otherEvents as readonly string[]).includes(kind))
      t.equal(
        rows,
        1,
        `${kind} is in one list of test/helpers/operator-events.ts: who did it decides which; an operator's says what was before and what is after`,
      )
    }
    for (const kind of [...Object.keys(operatorEvents), ...otherEvents]) t.ok(kind in eventKinds, kind)
  },
)

t.test('what an event leaves out is named', async (t) => {
  t.same(untold('node-changed', { before: {} }), ['after'])
  t.same(untold('channel-moved', { before: null, version: '2', channel: 'a/b', how: 'set' }), [])
  t.same(untold('nothing', {}), ['a row for nothing in test/helpers/operator-events.ts'])
})
