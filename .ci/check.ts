/** `npm run check`: types, lint and format, then what the code, its layout and the docs promise each other. */
import { run, runTap } from './tap.ts'

const steps: [string, () => Promise<boolean>][] = [
  ['types', async () => (await run('tsc', [])) === 0],
  // By itself: it runs in browsers, which have other globals.
  ['types of the dashboard', async () => (await run('tsc', ['-p', 'src/web'])) === 0],
  ['lint and format', async () => (await run('biome', ['ci', '--error-on-warnings', '.'])) === 0],
  [
    'architecture and docs',
    async () => (await runTap(['test/architecture.test.ts', 'test/docs.test.ts'])).failed === 0,
  ],
]

let failed = 0
for (const [name, step] of steps) {
  const good = await step()
  process.stdout.write(`${good ? 'ok' : 'FAILED'}: ${name}\n`)
  if (!good) failed += 1
}
process.exitCode = failed === 0 ? 0 : 1
