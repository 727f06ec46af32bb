import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a run of tests came to. */
export interface Counts {
  passed: number
  failed: number
  skipped: string[]
}

/** Runs test files under tap, shows failures as they come, and counts. Options are tap's own. */
export async function runTap(files: readonly string[], options: readonly string[] = []): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-tap-'))
  const raw = join(folder, 'out.tap')
  try {
    const code = await run('tap', ['-Rterse', `--output-file=${raw}`, ...options, ...files])
    return counted(readFileSync(raw, 'utf8'), code)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs a command with our output; resolves to its exit code. */
export function run(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env })
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
}

/** Reads the totals from raw TAP. A run that ended badly has failed, whatever it counted. */
function counted(tap: string, code: number): Counts {
  const totals = tap.match(/^# \{[^}]*\}$/gm)?.at(-1) ?? ''
  const number = (name: string): number => Number(new RegExp(`${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
  const failed = number('fail')
  const skipped = [...tap.matchAll(/^ *ok \d+ - (.*?) # SKIP ?(.*)$/gm)].map(
    ([, name, why]) => `${name}: ${why}`,
  )
  return { passed: number('pass'), failed: code !== 0 && failed === 0 ? 1 : failed, skipped }
}

/** The one closing line, and the exit code that goes with it. */
export function close({ passed, failed, skipped }: Counts): void {
  for (const what of skipped) process.stdout.write(`skipped: ${what}\n`)
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped.length} skipped\n`)
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1
}
