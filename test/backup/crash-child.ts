/** A backup or a restore that is killed behind its nth step: KIND N DATA_DIR DATABASE FILE. */
import { backup, restore } from './helpers.ts'

const [kind = '', at = '', dataDir = '', database = '', file = ''] = process.argv.slice(2)
let steps = 0

function count(): void {
  steps += 1
  if (steps !== Number(at)) return
  process.kill(process.pid, 'SIGKILL')
  for (;;) {} // the signal arrives before anything else can happen
}

if (kind === 'backup') await backup({ dataDir, database }, file, { faults: count })
else await restore(file, dataDir, database, { faults: count })
process.stdout.write(`${steps}\n`)
