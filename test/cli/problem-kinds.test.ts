import t from 'tap'
import { problemKinds } from '../../src/cli/event-words.ts'
import { eventKinds } from '../../src/domain/event.ts'

t.test('what failed, was refused or lost, or hangs, is a problem in lists and timelines', async (t) => {
  const bad = /-(failed|failing|refused|halted|lost|looping|slow|stuck|held|expired)$|-not-/
  // A mark that ran out is nothing that anybody must look at.
  const kinds = Object.keys(eventKinds).filter((kind) => bad.test(kind) && kind !== 'reinstall-expired')
  t.same(
    kinds.filter((kind) => !problemKinds.has(kind)),
    [],
  )
  t.same(
    [...problemKinds].filter((kind) => !Object.hasOwn(eventKinds, kind)),
    [],
    'each of them is a kind of event',
  )
})
