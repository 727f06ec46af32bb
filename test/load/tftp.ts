import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { absentProgram } from './load.ts'
import { type Comparison, cpuSeconds, type OpenComparison, times } from './measure.ts'

interface Work {
  readonly name: string
  readonly clients: number
  readonly rounds: number
  readonly blockSize: number
  readonly windowSize: number
}

/** dnsmasq takes no windows, and so gets what it gives every client: one block at a time. */
const work: readonly Work[] = [
  { name: '1 client, 1468-byte blocks', clients: 1, rounds: 40, blockSize: 1468, windowSize: 1 },
  { name: '100 clients, 1468-byte blocks', clients: 100, rounds: 1, blockSize: 1468, windowSize: 1 },
  { name: '1 client, 8192-byte blocks, window 16', clients: 1, rounds: 150, blockSize: 8192, windowSize: 16 },
  {
    name: '100 clients, 8192-byte blocks, window 16',
    clients: 100,
    rounds: 3,
    blockSize: 8192,
    windowSize: 16,
  },
]

const bare = 'bare node:dgram'
const oneBlock = ['Pawl', 'dnsmasq', bare]
const windowed = ['Pawl', 'dnsmasq']
const byNumber: Readonly<Record<string, number>> = { Pawl: 6969, dnsmasq: 69, [bare]: 6970 }

/**
 * TFTP: 1 MB files on loopback, against dnsmasq, and where one block goes at a time against the least that a server on
 * node:dgram can be: that is the floor.
 */
export const tftp: Comparison = {
  name: 'TFTP',
  unit: 'MB per server CPU-second',
  better: 'more',
  sides: oneBlock,
  rows: work.map(({ name, windowSize }) => ({
    name,
    target: { of: 'ratio', bound: 1.2 },
    sides: windowSize === 1 ? oneBlock : windowed,
  })),
  absent: () =>
    absentProgram('dnsmasq') ??
    (process.argv.includes('--inside') ? undefined : 'needs root, for a network namespace with port 69'),
  open,
}

async function open(): Promise<OpenComparison> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-bench-'))
  const file = join(folder, 'file')
  writeFileSync(file, randomBytes(2 ** 20), { mode: 0o644 })
  const servers = new Map<string, ChildProcess>([
    ['Pawl', await startScript('tftp-server.ts', file, byNumber.Pawl)],
    ['dnsmasq', await startDnsmasq(folder)],
    [bare, await startScript('tftp-bare.ts', file, byNumber[bare])],
  ])
  // Once before: what is compiled and read by then is compiled and read for all machines of a storm.
  for (const side of servers.keys()) await load(side, { ...work[0], rounds: times(20) } as Work)
  return {
    run: async (side, row) => {
      const one = work[row] ?? work[0]
      const pid = servers.get(side)?.pid
      if (one === undefined || pid === undefined) throw new Error(`${side} does not run`)
      const before = cpuSeconds(pid)
      const bytes = await load(side, { ...one, rounds: times(one.rounds) })
      return bytes / 1e6 / (cpuSeconds(pid) - before)
    },
    close: async () => {
      for (const server of servers.values()) server.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function load(
  side: string,
  { clients, rounds, blockSize, windowSize }: Omit<Work, 'name'>,
): Promise<number> {
  const args = [byNumber[side], clients, rounds, blockSize, windowSize].map(String)
  const client = spawn(process.execPath, [join(import.meta.dirname, 'tftp-load.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  client.stdout.on('data', (part) => {
    said += part
  })
  const [status] = await once(client, 'close')
  if (status !== 0) throw new Error(`the clients of ${side} ended with ${status}`)
  const { bytes } = JSON.parse(said) as { bytes: number }
  if (bytes !== clients * rounds * 2 ** 20) throw new Error(`${bytes} bytes came from ${side}`)
  return bytes
}

async function startScript(name: string, file: string, port = 0): Promise<ChildProcess> {
  const args = [join(import.meta.dirname, name), file, String(port)]
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  await once(server.stdout, 'data')
  return server
}

async function startDnsmasq(folder: string): Promise<ChildProcess> {
  const server = spawn(
    'dnsmasq',
    [
      '--port=0',
      '--enable-tftp',
      `--tftp-root=${folder}`,
      '--tftp-max=200',
      '--listen-address=127.0.0.1',
      '--bind-interfaces',
      '--keep-in-foreground',
      '--user=root',
      '--conf-file=/dev/null',
      '--pid-file=',
      '--log-facility=/dev/null',
    ],
    { stdio: 'ignore' },
  )
  // It says nothing when it is ready; a client asks again after a second, which costs it nothing.
  await sleep(300)
  if (server.exitCode !== null) throw new Error(`dnsmasq ended with ${server.exitCode}`)
  return server
}
