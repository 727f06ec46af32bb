import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export { freePort } from '../../helpers/ports.ts'

/** A program and the arguments that come before all others. */
export type Command = readonly [string, ...string[]]

/** A running `pawl server`. */
export interface ServerProcess {
  readonly child: ChildProcess
  readonly operator: string
}

/**
 * Starts a server and waits until it can serve; throws with what it said when it cannot. The server ends with this process, however
 * that ends.
 */
export async function startServer(
  [program, ...before]: Command,
  args: readonly string[],
  onLog: (text: string) => void,
): Promise<ServerProcess> {
  const child = spawn(program, [...before, 'server', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  endWithUs(child)
  child.stderr.on('data', (data: Buffer) => onLog(data.toString('utf8')))
  let errors = ''
  child.stderr.on('data', (data: Buffer) => {
    errors = (errors + data.toString('utf8')).slice(-2000)
  })
  const ended = once(child, 'close').then(() => Promise.reject(new Error(`pawl server ended: ${errors}`)))
  const line = once(createInterface(child.stdout), 'line') as Promise<[string]>
  const [ready] = await Promise.race([line, ended])
  ended.catch(() => undefined) // later it may end as it likes
  return { child, operator: (JSON.parse(ready) as { operator: string }).operator }
}

/** A shell's standard input closes when this process is gone, also when it was killed: then it kills the child. */
function endWithUs(child: ChildProcess): void {
  if (child.pid === undefined) return // it did not start, which is told elsewhere
  const script = 'cat > /dev/null; kill -KILL "$0" 2> /dev/null'
  const guard = spawn('/bin/sh', ['-c', script, String(child.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true, // what ends the whole group of the test must not end it first
  })
  guard.on('error', () => undefined)
  guard.unref()
  ;(guard.stdin as unknown as { unref(): void }).unref()
  // Before its input closes: the number may be another's by now.
  child.once('exit', () => {
    guard.kill('SIGKILL')
    guard.stdin.destroy()
  })
}

/** Runs a command of pawl to its end. */
export function runPawl([program, ...before]: Command, args: readonly string[], input = ''): Promise<string> {
  return run(program, [...before, ...args], input)
}

/** An IPv6 address in the brackets that a URL and HOST:PORT want. */
export function inUrl(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}

/** Runs a command to its end and returns its stdout; throws with its stderr when it fails. */
export async function run(command: string, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  // A command that ends before it read its input is judged by its exit code.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  let out = ''
  let errors = ''
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString('utf8')
  })
  child.stderr.on('data', (data: Buffer) => {
    errors += data.toString('utf8')
  })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${errors.trim()}`)
  return out
}
