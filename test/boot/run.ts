/**
 * `npm run test:boot`: the tests that boot machines under QEMU. Installs the Debian packages they need when it is run as
 * root; otherwise says which are missing and the line that installs them. `npm run test:boot -- FILE…` runs some.
 */
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { close, longestFirst, runTap } from '../../.ci/tap.ts'
import { ensureArtifacts } from './helpers/artifacts.ts'
import { networkPackages } from './helpers/network.ts'
import { bootPackages, ensureBootTools, installLine, missingBootPackages } from './helpers/tools.ts'
import { openTurns } from './helpers/turns.ts'

const say = (line: string): void => void process.stdout.write(`${line}\n`)

function allFiles(): string[] {
  const names = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.test.ts'))
  const long = [
    ...['ways-in', 'image-test', 'debian', 'arm64', 'other-ways', 'generic', 'images', 'ipv6', 'media'],
    ...['reinstall', 'rotation', 'rotation-of-roots', 'certificate', 'again'],
  ]
  return longestFirst(
    names.map((name) => join('test/boot', name)),
    long,
  )
}

async function main(): Promise<void> {
  const missing = missingBootPackages()
  if (missing.length > 0 && process.getuid?.() !== 0) {
    say(`missing Debian packages: ${missing.join(' ')}\nrun: sudo ${installLine(missing)}`)
    close({ passed: 0, failed: 1, skipped: [] })
    return
  }
  // Root can make networks too; tests that need one are skipped for others.
  ensureBootTools(say, process.getuid?.() === 0 ? { ...bootPackages, ...networkPackages } : bootPackages)
  await ensureArtifacts(say)
  const files = process.argv.slice(2)
  const cores = availableParallelism()
  const endTurns = await openTurns(cores)
  // One file more than cores: while its server starts and its images are published, the machines of the others boot.
  close(
    await runTap(files.length > 0 ? files : allFiles(), [`--jobs=${cores + 1}`, '--timeout=3600']).finally(
      endTurns,
    ),
  )
}

await main()
