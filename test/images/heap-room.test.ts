import { spawnSync } from 'node:child_process'
import t from 'tap'
import { heapRoomFlag } from '../../src/images/heap-room.ts'

t.test(
  'the V8 of this Node knows the flag: one that it does not know does nothing while it runs',
  async (t) => {
    t.not(
      spawnSync(process.execPath, ['--heap-growing-percentage=100', '-e', '']).status,
      0,
      'unlike another',
    )
    const known = spawnSync(process.execPath, [heapRoomFlag, '-e', ''], { encoding: 'utf8' })
    t.same({ status: known.status, said: known.stderr }, { status: 0, said: '' })
  },
)
