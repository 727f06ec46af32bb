import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { smallKernel } from '../helpers/small-image.ts'
import type { PlayedNode } from './boot.ts'

/** The real server, in a process of its own, on a data folder that `pawl init` made. */
export interface PawlSide {
  readonly pid: number
  readonly dataDir: string
  readonly bootPort: number
  readonly operatorPort: number
  readonly ca: string
  readonly token: string
  /** Calls the operators' API; rejects when it is not served. */
  api(method: string, path: string, body?: unknown): Promise<unknown>
  stop(): Promise<void>
}

const pawl = join(import.meta.dirname, '..', '..', 'bin', 'pawl')
/** Each boot of the bench is a stage 1, and it makes many more than a machine does in an hour. */
const settings = ['--max-stage1-per-hour', '3600', '--loop-stage1s', '0']

/** Makes a data folder. */
export async function makeDataFolder(flags: readonly string[] = []): Promise<string> {
  const dataDir = join(mkdtempSync(join(tmpdir(), 'pawl-bench-')), 'data')
  await runPawl(['init', '--data', dataDir, '--name', 'localhost', ...flags])
  return dataDir
}

/** Removes it. */
export function removeDataFolder(dataDir: string): void {
  rmSync(join(dataDir, '..'), { recursive: true, force: true })
}

/** Runs a command of ours to its end. */
export async function runPawl(args: readonly string[]): Promise<void> {
  const child = spawn(pawl, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const said = text(child.stderr)
  const [status] = await once(child, 'close')
  if (status !== 0) throw new Error(`pawl ${args[0]} ended with ${status}: ${await said}`)
}

/** Starts the server; its log goes to a file, as under systemd it goes to the journal. */
export async function startPawl(dataDir: string, flags: readonly string[] = []): Promise<PawlSide> {
  const listen = ['--boot-listen', '127.0.0.1:0', '--operator-listen', '127.0.0.1:0']
  const log = openSync(join(dataDir, '..', 'log'), 'a')
  const args = ['server', '--data', dataDir, ...listen, ...settings, ...flags]
  const child = spawn(pawl, args, { stdio: ['ignore', 'pipe', log] })
  const ready = await readyLine(child, join(dataDir, '..', 'log'))
  const ca = readFileSync(ready.ca, 'utf8')
  const token = readFileSync(join(dataDir, 'admin.token'), 'utf8').trim()
  const agent = new Agent({ keepAlive: true, maxSockets: 8, ca })
  return {
    pid: child.pid ?? 0,
    dataDir,
    bootPort: Number(new URL(ready.boot).port),
    operatorPort: Number(new URL(ready.operator).port),
    ca,
    token,
    api: (method, path, body) => callApi({ agent, base: ready.operator, token }, method, path, body),
    stop: async () => {
      agent.destroy()
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'close')
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 5000)
      await ended
      clearTimeout(late)
    },
  }
}

interface ReadyLine {
  readonly boot: string
  readonly operator: string
  readonly ca: string
}

/** The first line on stdout says where it serves. */
export async function readyLine(child: ChildProcess, log: string): Promise<ReadyLine> {
  if (child.stdout === null) throw new Error('its stdout is a pipe')
  const lines = createInterface({ input: child.stdout })
  const ended = once(child, 'close').then(([status]) => {
    throw new Error(`pawl server ended with ${status}: ${readFileSync(log, 'utf8').slice(-2000)}`)
  })
  const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string]
  ended.catch(() => {}) // its end at the close of the bench is no fault
  return JSON.parse(line) as ReadyLine
}

/** Bytes of the artifact that the cache holds, and of the one that is larger than it takes. */
export const cachedBytes = 32 * 2 ** 20
export const uncachedBytes = 160 * 2 ** 20
/** The cache that makes them so: what is larger than half of it is read from its file. */
export const cacheFlags = ['--artifact-cache-mib', '128']

/** How large files are that are fetched in a row. */
const fetched = { large: cachedBytes, larger: uncachedBytes }

/** Publishes a small image and one with large files, and makes the profile `bench` and its nodes, each with a secret. */
export async function makeFleet(side: PawlSide, count: number, sizes = fetched): Promise<PlayedNode[]> {
  const folder = join(side.dataDir, '..')
  const files = {
    kernel: smallKernel().bytes,
    initramfs: randomBytes(2 ** 16),
    large: randomBytes(sizes.large),
    larger: randomBytes(sizes.larger),
  }
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes)
  const publish = (image: string, args: string[]): Promise<void> =>
    runPawl(['image', 'publish', image, '--data', side.dataDir, '--kernel', join(folder, 'kernel'), ...args])
  await publish('first@1', ['--initramfs', join(folder, 'initramfs')])
  await publish('second@1', ['--initramfs', join(folder, 'large'), '--filesystem', join(folder, 'larger')])
  const boot = { stage2: 'first@1', stage3: 'second@1', join: { kind: 'none' } }
  await side.api('PUT', '/profiles/bench', { name: 'bench', boot })
  const names = Array.from({ length: count }, (_, index) => `bench${index}`)
  const nodes: PlayedNode[] = []
  for (const host of names) {
    await side.api('POST', '/nodes', {
      name: host,
      profile: 'bench',
      labels: { site: `s${nodes.length % 8}` },
    })
    const { secret } = (await side.api('POST', `/nodes/${host}/secret`)) as { secret: string }
    nodes.push({ host, secret })
  }
  return nodes
}

/** SHA-256 of a file that `makeFleet` made. */
export function digestOfFile(side: PawlSide, name: string): string {
  return createHash('sha256')
    .update(readFileSync(join(side.dataDir, '..', name)))
    .digest('hex')
}

interface ApiOptions {
  readonly agent: Agent
  readonly base: string
  readonly token: string
}

async function callApi(
  { agent, base, token }: ApiOptions,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const asked = request(`${base}/api/v1${path}`, {
    agent,
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(method === 'POST' ? { 'idempotency-key': `"${randomBytes(16).toString('hex')}"` } : {}),
    },
  })
  asked.end(body === undefined ? undefined : JSON.stringify(body))
  const [answer] = await once(asked, 'response')
  const said = await text(answer)
  if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${said}`)
  return said === '' ? undefined : JSON.parse(said)
}
