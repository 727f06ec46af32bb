import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Comparison, cpuSeconds } from './measure.ts'

/** The same file, the same clients; dnsmasq takes no windows, and so gets what it gives every client: one block at a time. */
const work = [
  { row: '1 client, 1468-byte blocks', clients: 1, rounds: 30, blockSize: 1468, windowSize: 1 },
  { row: '100 clients, 1468-byte blocks', clients: 100, rounds: 1, blockSize: 1468, windowSize: 1 },
  { row: '1 client, 8192-byte blocks, window 16', clients: 1, rounds: 60, blockSize: 8192, windowSize: 16 },
  {
    row: '100 clients, 8192-byte blocks, window 16',
    clients: 100,
    rounds: 6,
    blockSize: 8192,
    windowSize: 16,
  },
]

/** TFTP against dnsmasq: 1 MB files on loopback. */
export const tftpComparisons: readonly Comparison[] = [
  {
    name: 'TFTP',
    unit: 'MB per server CPU-second',
    other: 'dnsmasq',
    rows: work.map(({ row }) => row),
    absent: () => {
      if (spawnSync('dnsmasq', ['--version']).status !== 0) return 'dnsmasq is not installed'
      // dnsmasq serves port 69 only: a network of its own keeps it from whoever has that here.
      const alone = spawnSync('unshare', ['-n', 'true'])
      return alone.status === 0 ? undefined : 'needs root, for a network namespace'
    },
    run: runAll,
  },
]

async function runAll(side: 'pawl' | 'other'): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-bench-'))
  writeFileSync(join(folder, 'file'), randomBytes(2 ** 20))
  // What runs in the namespace is told by lines what to do, so that server and clients are in one.
  const inside = spawn(
    'unshare',
    ['-n', process.execPath, join(import.meta.dirname, 'tftp.ts'), side, folder],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  let said = ''
  inside.stdout.on('data', (part) => {
    said += part
  })
  const [status] = await once(inside, 'close')
  rmSync(folder, { recursive: true, force: true })
  if (status !== 0) throw new Error(`the measurement of ${side} ended with ${status}`)
  return JSON.parse(said) as number[]
}

/** In the namespace: the server, then each row of work. */
async function inNamespace(side: string, folder: string): Promise<void> {
  spawnSync('ip', ['link', 'set', 'lo', 'up'], { stdio: 'inherit' })
  const server = side === 'pawl' ? await startOurs(folder) : await startDnsmasq(folder)
  const figures: number[] = []
  try {
    // Once before: what is compiled and read by then is compiled and read for all machines of a storm.
    await load(1, 20, 1468, 1)
    for (const { clients, rounds, blockSize, windowSize } of work) {
      const before = cpuSeconds(server.pid ?? 0)
      const bytes = await load(clients, rounds, blockSize, windowSize)
      figures.push(bytes / 1e6 / (cpuSeconds(server.pid ?? 0) - before))
    }
  } finally {
    server.kill()
  }
  process.stdout.write(JSON.stringify(figures))
}

async function load(clients: number, rounds: number, blockSize: number, windowSize: number): Promise<number> {
  const args = [69, clients, rounds, blockSize, windowSize].map(String)
  const client = spawn(process.execPath, [join(import.meta.dirname, 'tftp-load.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  client.stdout.on('data', (part) => {
    said += part
  })
  const [status] = await once(client, 'close')
  if (status !== 0) throw new Error(`the clients ended with ${status}`)
  const { bytes } = JSON.parse(said) as { bytes: number }
  if (bytes !== clients * rounds * 2 ** 20) throw new Error(`${bytes} bytes came`)
  return bytes
}

async function startOurs(folder: string): Promise<ChildProcess> {
  const args = [join(import.meta.dirname, 'tftp-server.ts'), join(folder, 'file'), '69']
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
  await new Promise((resolve) => setTimeout(resolve, 300))
  if (server.exitCode !== null) throw new Error(`dnsmasq ended with ${server.exitCode}`)
  return server
}

if (process.argv[1] === import.meta.filename) await inNamespace(process.argv[2] ?? '', process.argv[3] ?? '')
