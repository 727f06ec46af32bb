import { pino } from 'pino'
import t from 'tap'
import { loadConfig } from '../src/config.ts'
import { openServing } from '../src/open-serving.ts'

t.test(
  'the bandwidth of a server is shared out to its workers: together they bear no more downloads',
  (t) => {
    for (const [workers, each] of [
      [1, 64],
      [2, 32],
      [4, 16],
    ] as const) {
      const config = loadConfig({
        flags: { data: t.testdir({}) },
        env: {},
        fileText: `downloadBytesPerSecond: ${64 * 16_384}\nworkers: ${workers}\n`,
        fileName: 'pawl.yaml',
      })
      const store = { open: () => Promise.reject(new Error('nothing is read')) }
      const { gate, options } = openServing(config, pino({ level: 'silent' }), store, () => undefined)
      for (let n = 0; n < each; n += 1) options.bandwidth?.begin(`node${n}`)
      t.throws(() => options.bandwidth?.begin('one more'), { code: 'overloaded' }, `with ${workers} workers`)
      gate.close()
    }
    t.end()
  },
)
