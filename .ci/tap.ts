import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { folderInMemory } from './memory.ts'

/** What a run of tests came to. */
export interface Counts {
  passed: number
  failed: number
  skipped: string[]
}

// The commands that tests run start in half the time with compiled code that is kept.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, '../node_modules/.cache/compiled')

/** Runs test files under tap: a line for each file as it ends, each failure with its details, and the counts. */
export async function runTap(files: readonly string[], options: readonly string[] = []): Promise<Counts> {
  const memory = process.env.TMPDIR === undefined ? folderInMemory() : undefined
  const child = spawn('tap', ['-Rtap', ...options, ...files], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: memory === undefined ? process.env : { ...process.env, TMPDIR: memory },
  })
  const closed = new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
  const counts: Counts = { passed: 0, failed: 0, skipped: [] }
  let totals = ''
  let inDetails = false
  for await (const line of createInterface(child.stdout)) {
    if (/^# \{.*\}$/.test(line)) totals = line
    const [, indent = '', not, name = ''] = /^( *)(not )?ok \d+ - (.*)$/.exec(line) ?? []
    const skip = / # SKIP ?(.*)$/.exec(name)
    if (skip !== null) counts.skipped.push(name.replace(' # SKIP', ':'))
    const begins = not !== undefined
    if (begins || inDetails || (name !== '' && indent === '')) process.stdout.write(`${line}\n`)
    if (begins) inDetails = true
    else if (/^ *\.\.\.$/.test(line) || name !== '') inDetails = false
  }
  const code = await closed
  const number = (name: string): number => Number(new RegExp(`\\b${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
  counts.passed = number('pass')
  // A run that ended badly has failed, whatever it counted.
  counts.failed = code !== 0 && number('fail') === 0 ? 1 : number('fail')
  return counts
}

/** Test files in the order of their names, but those that take minutes first: none is left to run alone at the end. */
export function longestFirst(files: readonly string[], long: readonly string[]): string[] {
  const rank = (file: string): number => {
    const at = long.findIndex((name) => file.endsWith(`/${name}.test.ts`))
    return at < 0 ? long.length : at
  }
  return files.toSorted((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
}

/** Runs a command with our output; resolves to its exit code. */
export function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
}

/** The one closing line, and the exit code that goes with it. */
export function close({ passed, failed, skipped }: Counts): void {
  for (const what of new Set(skipped)) {
    const times = skipped.filter((other) => other === what).length
    process.stdout.write(`skipped: ${what}${times > 1 ? ` (${times} times)` : ''}\n`)
  }
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped.length} skipped\n`)
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1
}
