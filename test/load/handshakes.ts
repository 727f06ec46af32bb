import type { TlsWish } from './exchange.ts'
import { requestText } from './exchange.ts'
import { type Lab, openLab } from './lab.ts'
import type { Lanes } from './load.ts'
import { type Comparison, cpuSeconds, times } from './measure.ts'
import { nginxAbsent } from './nginx-side.ts'

/** Kinds of connections, and how often they are made: cheap ones more often, since times are read in steps of 10 ms. */
const kinds = [
  { name: 'RSA-2048', kind: 'rsa', connections: 'new', count: 600 },
  { name: 'ECDSA P-256', kind: 'ecdsa', connections: 'new', count: 800 },
  { name: 'resumed session', kind: 'rsa', connections: 'resumed', count: 1000 },
] as const satisfies readonly {
  name: string
  kind: TlsWish['kind']
  connections: Lanes['connections']
  count: number
}[]

/** The least that a server in Node can be: `https-bare.ts`. */
export const bareHttps = 'bare node:https'

/** A small answer on a connection made for it: beside nginx, and beside the floor of Node itself. */
export const handshakes: Comparison = {
  name: 'small answer, new connection',
  unit: 'ms of server CPU',
  better: 'less',
  sides: ['Pawl', 'nginx', bareHttps],
  rows: kinds.map(({ name }) => ({ name })),
  absent: nginxAbsent,
  open: async () => {
    const lab = await openLab()
    const run = (side: string, row: number): Promise<number> =>
      measureHandshakes(lab, side, kinds[row] ?? kinds[0])
    await warmUp(handshakes.sides, 3, (side) => run(side, kinds.length - 1))
    return { run, close: async () => undefined }
  },
}

/**
 * Runs that are not measured, the same for each side: what V8 has run a thousand times still costs half as much again as what it has run
 * eight thousand times. Resumed sessions do, since what differs between rows is OpenSSL's.
 */
export async function warmUp(
  sides: readonly string[],
  runs: number,
  run: (side: string) => Promise<number>,
): Promise<void> {
  for (let round = 0; round < runs; round += 1) for (const side of sides) await run(side)
}

async function measureHandshakes(lab: Lab, side: string, work: (typeof kinds)[number]): Promise<number> {
  const { pid, wish, request } = sideOf(lab, side, work.kind)
  const { connections } = work
  const count = times(work.count)
  if (connections === 'resumed') await lab.load.perform({ do: 'remember', wish, request })
  const before = cpuSeconds(pid)
  await lab.load.perform({ do: 'requests', wish, connections, concurrency: 8, requests: [request], count })
  return ((cpuSeconds(pid) - before) * 1000) / count
}

/** Whom to ask for what is small. */
export function sideOf(
  { pawl, nginx, bare }: Lab,
  side: string,
  kind: TlsWish['kind'],
): { pid: number; wish: TlsWish; request: string } {
  const ours = side === 'Pawl'
  const { pid, port } = ours ? { pid: pawl.pid, port: pawl.bootPort } : side === bareHttps ? bare : nginx
  return { pid, wish: { port, ca: pawl.ca, kind }, request: requestText('GET', ours ? '/_ah/health' : '/ok') }
}
