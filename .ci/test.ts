/** `npm test`: every test that needs no emulator and no root. `npm test -- FILE…` runs some. */
import { close, runTap } from './tap.ts'

close(await runTap(process.argv.slice(2)))
