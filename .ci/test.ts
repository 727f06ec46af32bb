/** `npm test`: every test that needs no emulator and no root. `npm test -- FILE…` runs some. */
import { globSync } from 'node:fs'
import { close, runTap } from './tap.ts'

const asked = process.argv.slice(2)
const all = globSync('test/**/*.test.ts').filter((file) => !file.startsWith('test/boot/'))
close(await runTap(asked.length > 0 ? asked : all.sort()))
