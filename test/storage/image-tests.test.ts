import t from 'tap'
import type { ImageTestRow } from '../../src/storage/image-tables.ts'
import {
  findLastTest,
  insertImageTest,
  listImageTests,
  listLastTests,
} from '../../src/storage/image-tests.ts'
import { publishImage } from '../helpers/fleet.ts'
import { forEachDatabase } from '../helpers/world.ts'

const at = (second: number): string => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()

function testOf(version: string, number: number, changes: Partial<ImageTestRow> = {}): ImageTestRow {
  return {
    id: `${version}-${number}`,
    name: 'small',
    version,
    passed: 1,
    detail: JSON.stringify({ seconds: number }),
    tested_by: 'operator:pat',
    tested_at: at(number),
    ...changes,
  }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'keeps the newest 20 tests of each version, and lists the last without its detail',
    async (t) => {
      const world = await openWorld()
      await publishImage(world, 'small@1', 'a', false)
      await publishImage(world, 'small@2', 'b', false)
      const { storage } = world.context
      await storage.transaction(async (tx) => {
        await insertImageTest(tx, testOf('2', 0))
        for (let number = 1; number <= 25; number += 1) await insertImageTest(tx, testOf('1', number))
      })
      const kept = await listImageTests(storage.db, 'small', '1', 1000)
      t.same(
        kept.map(({ id }) => id),
        Array.from({ length: 20 }, (_, index) => `1-${25 - index}`),
      )
      t.match(await findLastTest(storage.db, 'small', '1'), { id: '1-25', detail: '{"seconds":25}' })
      t.same((await listImageTests(storage.db, 'small', '2')).length, 1, 'another version keeps its own')
      await storage.transaction((tx) => insertImageTest(tx, testOf('1', 25, { id: 'failed', passed: 0 })))
      const last = await listLastTests(storage.db, ['small'])
      t.match(last.get('small@1'), { id: 'failed', passed: 0 }, 'at the same moment the failure counts')
      t.notOk('detail' in (last.get('small@1') ?? { detail: '' }), 'its detail stays unread')
      t.match(last.get('small@2'), { id: '2-0', passed: 1, tested_at: at(0) })
    },
  )
})
