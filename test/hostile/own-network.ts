import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { constants } from 'node:os'

/** Why a file of tests cannot have a network of its own; undefined where it can. With PAWL_REQUIRE=all that is a failure. */
export function ownNetworkAbsent(): string | undefined {
  if (process.env.PAWL_REQUIRE === 'all') return undefined
  return spawnSync('unshare', ['-n', 'true'], { stdio: 'ignore' }).status === 0
    ? undefined
    : 'needs root: a network namespace'
}

/**
 * Runs a file of tests in a network namespace in which nothing but itself is, so that addresses, routes and packets that are dropped
 * are nobody else's trouble. What it says of its tests is said as this process's own.
 */
export async function runInOwnNetwork(file: string): Promise<void> {
  const script = 'ip link set lo up && exec "$0" "$@"'
  const args = ['-n', 'sh', '-c', script, process.execPath, ...process.execArgv, file]
  const child: ChildProcess = spawn('unshare', args, { stdio: 'inherit' })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => child.kill(signal))
  process.once('exit', () => child.kill('SIGKILL'))
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.once('exit', (...how) => resolve(how)),
  )
  process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
}
