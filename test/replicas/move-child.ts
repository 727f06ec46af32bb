import { moveDatabase } from '../../src/move-database.ts'
import { configOf } from '../backup/helpers.ts'

/** A move that is killed at a step: `DATA-DIR URL STEP`. */
const [dataDir = '', to = '', at = ''] = process.argv.slice(2)
await moveDatabase({
  config: configOf(dataDir),
  to,
  now: new Date('2026-11-21T12:00:00Z'),
  faults: (step) => {
    if (step === at) process.kill(process.pid, 'SIGKILL')
  },
})
