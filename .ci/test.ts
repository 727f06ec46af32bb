/** `npm test`: every test that needs no emulator and no root. `npm test -- FILE…` runs some. */
import { globSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { close, longestFirst, runTap } from './tap.ts'

const asked = process.argv.slice(2)
const all = globSync('test/**/*.test.ts').filter((file) => !file.startsWith('test/boot/'))
// Those of more than a minute, as tap tells it.
const long = [
  ...['crash/crash', 'deploy/package', 'doctor/doctor', 'http/hostile', 'upgrade', 'fleet/campaigns'],
  ...['fleet/rollouts', 'backup/crash', 'crash/rotation', 'workers/postgres', 'http/sign-in'],
  ...['workers/sqlite', 'replicas/move', 'web/dashboard', 'replicas/replicas', 'cli/audit', 'storm/storm'],
  ...['root-rotation', 'crash/audit', 'images/artifacts'],
]
// One file more than cores: many wait for a disk, a child or a clock.
const jobs = `--jobs=${availableParallelism() + 1}`
close(await runTap(asked.length > 0 ? asked : longestFirst(all, long), [jobs]))
