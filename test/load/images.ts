import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { beginBoot, type PlayedNode, redemption, served } from './boot.ts'
import { openConnection, requestText } from './exchange.ts'
import { type Lab, openLab } from './lab.ts'
import { absentProgram } from './load.ts'
import { type Comparison, cpuSeconds, times } from './measure.ts'
import { nginxAbsent } from './nginx-side.ts'
import { cachedBytes, type PawlSide, uncachedBytes } from './pawl-side.ts'
import { openRecordRelay } from './records.ts'

interface Work {
  readonly name: string
  readonly clients: number
  /** How often each client fetches the file, on a connection of its own each time. */
  readonly times: number
  readonly maxFragment?: 4096
  readonly file: 'large' | 'larger'
  readonly bound: number
}

/** The floor of Node on this machine: its second ratio says what of the target is ours to reach (`images-bare.ts`). */
const bare = 'bare node:https'

/** A boot session may have a few downloads at a time only. */
const machines = 16

const work: readonly Work[] = [
  { name: '1 client, 16 KB records', clients: 1, times: 12, file: 'large', bound: 1.2 },
  { name: '16 clients, 16 KB records', clients: 16, times: 1, file: 'large', bound: 1.2 },
  { name: '64 clients, 16 KB records', clients: 64, times: 1, file: 'large', bound: 1.2 },
  { name: '1 client, 4 KB records', clients: 1, times: 6, maxFragment: 4096, file: 'large', bound: 2.5 },
  { name: '16 clients, 4 KB records', clients: 16, times: 1, maxFragment: 4096, file: 'large', bound: 2.5 },
  { name: '64 clients, 4 KB records', clients: 64, times: 1, maxFragment: 4096, file: 'large', bound: 2.5 },
  { name: '1 client, file larger than the cache', clients: 1, times: 3, file: 'larger', bound: 0.9 },
  { name: '8 clients, file larger than the cache', clients: 8, times: 1, file: 'larger', bound: 0.9 },
]

/**
 * Image bytes. The client is `openssl s_client`, for both sides and all rows: of what there is it alone can ask for
 * records of 4 KB (max_fragment_length, RFC 6066), as iPXE always does; curl and wrk cannot. That the records were so is counted.
 */
export const imageBytes: Comparison = {
  name: 'image bytes over HTTPS',
  unit: 'GB per server CPU-second',
  better: 'more',
  sides: ['Pawl', 'nginx', bare],
  rows: work.map(({ name, bound }) => ({ name, target: { of: 'ratio', bound } })),
  absent: () => nginxAbsent() ?? absentProgram('openssl', 'version'),
  open: async () => {
    const lab = await openLab()
    const requests = await requestsOf(lab.pawl, lab.nodes)
    const script = await startBare(lab.pawl.dataDir)
    const placeOn = (side: string): Place => (side === bare ? script : placeOf(lab, side))
    await checkRecords(placeOn, requests)
    return {
      run: (side, row) =>
        measureBytes(placeOn(side), work[row] ?? work[0], (client, file) => requests(side, file, client)),
      close: async () => void script.child.kill(),
    }
  },
}

/** Said by name, so that nobody looks for the row: there is nothing to measure. */
export const plainImageBytes: Comparison = {
  name: 'image bytes over plain HTTP',
  unit: 'GB per server CPU-second',
  better: 'more',
  sides: ['Pawl', 'nginx'],
  rows: [{ name: '16 clients', target: { of: 'ratio', bound: 0.6 } }],
  absent: () => 'Pawl has no plain HTTP listener',
  open: () => Promise.reject(new Error('there is nothing to measure')),
}

/** What a client asks a side for a file: ours by the capability of a boot, as machines do. */
export type FileRequests = (side: string, file: Work['file'], client?: number) => string

/** Boots some nodes up to stage 2, whose capability opens the stage-3 image's files; clients are spread over them. */
export async function requestsOf(pawl: PawlSide, nodes: readonly PlayedNode[]): Promise<FileRequests> {
  const capabilities: { host: string; capability: string }[] = []
  const connection = await openConnection({ port: pawl.bootPort, ca: pawl.ca, kind: 'modern' })
  for (const node of nodes.slice(0, machines)) {
    const { host, stage2 } = await beginBoot(connection.ask, node)
    const { capability } = JSON.parse(await served(connection.ask, redemption(host, 'stage2', stage2)))
    capabilities.push({ host, capability })
  }
  connection.end()
  const roles = { large: 'initramfs', larger: 'filesystem' }
  return (side, file, client = 0) => {
    const { host, capability } = capabilities[client % capabilities.length] ?? {}
    const path = side === 'Pawl' ? `/v1/boot/${host}/artifacts/${roles[file]}?c=${capability}` : `/${file}`
    return requestText('GET', path, { Connection: 'close' })
  }
}

/** The arguments of a client that speaks as iPXE does, or as it would with large records. */
export function clientArguments(port: number, maxFragment?: number): string[] {
  const suite = ['-tls1_2', '-cipher', 'ECDHE-RSA-AES128-GCM-SHA256']
  const records = maxFragment === undefined ? [] : ['-maxfraglen', String(maxFragment)]
  return ['s_client', '-quiet', '-connect', `127.0.0.1:${port}`, ...suite, ...records]
}

/** Fetches once; resolves when the server has closed. */
export async function fetchOnce(port: number, request: string, maxFragment?: number): Promise<void> {
  const child = spawn('openssl', clientArguments(port, maxFragment), { stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin.on('error', () => {}) // it ended before it read: the bytes are counted by who asks
  child.stdin.write(request)
  await once(child, 'close')
}

async function startBare(dataDir: string): Promise<Place & { child: ChildProcess }> {
  const script = join(import.meta.dirname, 'images-bare.ts')
  const child = spawn(process.execPath, [script, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(child.stdout, 'data')
  return { child, pid: child.pid ?? 0, ...(JSON.parse(String(line)) as { port: number }) }
}

async function measureBytes(
  { pid, port }: Place,
  row = work[0],
  requestOf: (client: number, file: Work['file']) => string,
): Promise<number> {
  if (row === undefined) throw new Error('there are rows')
  const before = cpuSeconds(pid)
  const each = times(row.times)
  const clients = times(row.clients)
  const client = async (_: unknown, index: number): Promise<void> => {
    const request = requestOf(index, row.file)
    for (let time = 0; time < each; time += 1) await fetchOnce(port, request, row.maxFragment)
  }
  await Promise.all(Array.from({ length: clients }, client))
  const bytes = clients * each * (row.file === 'large' ? cachedBytes : uncachedBytes)
  return bytes / 1e9 / (cpuSeconds(pid) - before)
}

interface Place {
  readonly pid: number
  readonly port: number
}

/** Where a side runs. */
export function placeOf({ pawl, nginx }: Lab, side: string): Place {
  return side === 'Pawl' ? { pid: pawl.pid, port: pawl.bootPort } : { pid: nginx.pid, port: nginx.port }
}

/** Once for each side and size of records, through a relay that counts: the whole file came, in records of that size. */
async function checkRecords(placeOn: (side: string) => Place, requests: FileRequests): Promise<void> {
  for (const side of imageBytes.sides) {
    for (const [maxFragment, most] of [
      [4096, 4096 + 64],
      [undefined, 16_384 + 64],
    ] as const) {
      const relay = await openRecordRelay(placeOn(side).port)
      await fetchOnce(relay.port, requests(side, 'large'), maxFragment)
      relay.close()
      const { largest, count } = relay.counter
      if (largest() > most || largest() < most / 2 || count() * largest() < cachedBytes)
        throw new Error(
          `${side} sent ${count()} records of at most ${largest()} bytes for ${maxFragment ?? 'any'}`,
        )
    }
  }
}
