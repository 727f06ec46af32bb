import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { type Api, openApi } from '../../src/cli/api.ts'
import { initPawl } from '../../src/init.ts'
import { freePort } from '../helpers/ports.ts'

const main = join(import.meta.dirname, '../../src/main.ts')

/** A real server process on a data folder of its own, and the command line beside it. */
export interface StormSite {
  readonly dataDir: string
  /** Of the operator listener. */
  readonly url: string
  readonly api: Api
  /** Kills the server where it stands, and starts it again at the same ports. */
  killAndRestart(): Promise<void>
  /** Runs `pawl …` as a process; `onLine` sees its stderr as it comes. */
  pawl(
    argv: readonly string[],
    onLine?: (line: string, child: ChildProcess) => void,
    env?: Readonly<Record<string, string>>,
  ): Promise<Ran>
  /** Everything of a storm that is there: nodes, profiles, images, sets. */
  everything(): Promise<Everything>
}

export interface Ran {
  readonly exit: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Everything {
  readonly nodes: unknown[]
  readonly profiles: unknown[]
  readonly images: unknown[]
  readonly sets: unknown[]
}

/** Makes one; it ends with the test. */
export async function openSite(t: Test, flags: readonly string[] = []): Promise<StormSite> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-storm-'))
  const dataDir = join(folder, 'data')
  await initPawl({
    dataDir,
    database: join(dataDir, 'pawl.db'),
    publicUrl: undefined,
    names: [],
    now: new Date(),
  })
  const ports = { boot: await freePort(), operator: await freePort() }
  const start = (): Promise<ChildProcess> => startServer(dataDir, ports, flags)
  let server = await start()
  const children = new Set<ChildProcess>()
  const url = `https://127.0.0.1:${ports.operator}`
  const api = openApi({
    url,
    token: readFileSync(join(dataDir, 'admin.token'), 'utf8').trim(),
    ca: readFileSync(join(dataDir, 'ca.crt'), 'utf8'),
    whenUnreachable: '',
    whenUnknown: '',
  })
  t.teardown(async () => {
    api.close()
    for (const child of children) child.kill('SIGKILL')
    await killed(server)
    rmSync(folder, { recursive: true, force: true })
  })
  const items = async (path: string): Promise<unknown[]> =>
    (await api.get<{ items: unknown[] }>(path, { limit: 1000 })).items
  return {
    dataDir,
    url,
    api,
    async killAndRestart() {
      await killed(server)
      server = await start()
    },
    async pawl(argv, onLine, env = { PAWL_DATA: dataDir }) {
      const child = spawn(process.execPath, [main, ...argv], {
        env: { PATH: process.env.PATH, NO_COLOR: '1', ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      children.add(child)
      const [stdout, stderr] = [linesOf(child.stdout), linesOf(child.stderr, (line) => onLine?.(line, child))]
      const [exit] = (await once(child, 'close')) as [number | null]
      children.delete(child)
      return { exit, stdout: stdout(), stderr: stderr() }
    },
    everything: async () => ({
      nodes: await items('/nodes'),
      profiles: await items('/profiles'),
      images: await items('/images'),
      sets: await items('/fleet/sets'),
    }),
  }
}

function linesOf(stream: NodeJS.ReadableStream, onLine: (line: string) => void = () => {}): () => string {
  const lines: string[] = []
  createInterface({ input: stream }).on('line', (line) => {
    lines.push(line)
    onLine(line)
  })
  return () => lines.join('\n')
}

async function startServer(
  dataDir: string,
  ports: { boot: number; operator: number },
  flags: readonly string[],
): Promise<ChildProcess> {
  const listen = [
    '--boot-listen',
    `127.0.0.1:${ports.boot}`,
    '--operator-listen',
    `127.0.0.1:${ports.operator}`,
  ]
  const argv = [main, 'server', '--data', dataDir, ...listen, '--log-level', 'error', ...flags]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit').then(([code]) =>
    Promise.reject(new Error(`the server ended with ${code}`)),
  )
  ended.catch(() => undefined)
  await Promise.race([once(child.stdout, 'data'), ended])
  return child
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
