/** `npm test`: every test that needs no emulator and no root. `npm test -- FILE…` runs some. */
import { globSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { close, longestFirst, runTap } from './tap.ts'

const asked = process.argv.slice(2)
const all = globSync('test/**/*.test.ts').filter((file) => !file.startsWith('test/boot/'))
const long = ['upgrade', 'crash/crash', 'fleet/rollouts', 'deploy/package', 'fleet/campaigns', 'cli/audit']
// One file more than cores: many wait for a disk, a child or a clock.
const jobs = `--jobs=${availableParallelism() + 1}`
close(await runTap(asked.length > 0 ? asked : longestFirst(all, long), [jobs]))
