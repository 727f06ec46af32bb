import { redemption } from './boot.ts'
import { requestText, type TlsWish } from './exchange.ts'
import { bareHttps, warmUp } from './handshakes.ts'
import { type Lab, openLab } from './lab.ts'
import type { Lanes } from './load.ts'
import { type Comparison, cpuSeconds, times } from './measure.ts'
import { nginxAbsent } from './nginx-side.ts'

interface Kind {
  readonly name: string
  readonly kind: TlsWish['kind']
  readonly connections: Lanes['connections']
}

const rsa: Kind = { name: 'RSA-2048', kind: 'rsa', connections: 'new' }
const ecdsa: Kind = { name: 'ECDSA P-256', kind: 'ecdsa', connections: 'new' }
const resumed: Kind = { name: 'resumed session', kind: 'rsa', connections: 'resumed' }
const modern: Kind = { name: 'TLS 1.3', kind: 'modern', connections: 'new' }
const stageKinds = [rsa, ecdsa, resumed]
const bootKinds = [rsa, ecdsa, resumed, modern]

/** One redemption of stage 2 with everything, beside a file of the same size from nginx over the same kind of connection. */
export const stageRequests: Comparison = {
  name: 'stage request, durable, new connection',
  unit: 'ms of server CPU',
  better: 'less',
  sides: ['Pawl', 'nginx (static file)', bareHttps],
  rows: [
    { name: rsa.name, target: { of: 'ratio', bound: 1.6 } },
    { name: ecdsa.name, target: { of: 'ratio', bound: 2 } },
    { name: resumed.name, target: { of: 'value', bound: 0.37 } },
  ],
  absent: nginxAbsent,
  open: async () => {
    const lab = await openLab()
    const run = (side: string, row: number): Promise<number> => {
      const kind = stageKinds[row] ?? rsa
      if (side === 'Pawl') return redeemStage2(lab, kind)
      return fetchStatic(lab, side === bareHttps ? lab.bare : lab.nginx, kind)
    }
    await warmUp(stageRequests.sides, 10, (side) => run(side, stageKinds.length - 1))
    return { run, close: async () => undefined }
  },
}

/** Boots whole, each request on a connection of its own. */
export const wholeBoots: Comparison = {
  name: 'whole boot without images, 6 requests, new connections',
  unit: 'boots per second of a core',
  better: 'more',
  sides: ['Pawl'],
  rows: [
    { name: rsa.name, target: { of: 'value', bound: 220 } },
    { name: ecdsa.name, target: { of: 'value', bound: 330 } },
    { name: resumed.name },
    { name: modern.name },
  ],
  absent: () => undefined,
  open: async () => {
    const lab = await openLab()
    return {
      run: (_side, row) => boots(lab, bootKinds[row] ?? rsa),
      close: async () => undefined,
    }
  },
}

/** Stage 1 and the handover are made before, on connections that stay, and not measured. */
async function redeemStage2({ pawl, nodes, load }: Lab, { kind, connections }: Kind): Promise<number> {
  const wish = { port: pawl.bootPort, ca: pawl.ca, kind }
  const { begun = [] } = await load.perform({ do: 'begin', wish, connections: 'kept', concurrency: 8, nodes })
  if (connections === 'resumed')
    await load.perform({ do: 'remember', wish, request: requestText('GET', '/_ah/health') })
  const requests = begun.map(({ host, stage2 }) => redemption(host, 'stage2', stage2))
  const before = cpuSeconds(pawl.pid)
  await load.perform({ do: 'requests', wish, connections, concurrency: 8, requests })
  return ((cpuSeconds(pawl.pid) - before) * 1000) / requests.length
}

async function fetchStatic(
  { pawl, load }: Lab,
  { pid, port }: { readonly pid: number; readonly port: number },
  { kind, connections }: Kind,
): Promise<number> {
  const wish = { port, ca: pawl.ca, kind }
  const request = requestText('GET', '/stage')
  if (connections === 'resumed') await load.perform({ do: 'remember', wish, request })
  const count = times(600)
  const before = cpuSeconds(pid)
  await load.perform({ do: 'requests', wish, connections, concurrency: 8, requests: [request], count })
  return ((cpuSeconds(pid) - before) * 1000) / count
}

async function boots({ pawl, nodes, load }: Lab, { kind, connections }: Kind): Promise<number> {
  const wish = { port: pawl.bootPort, ca: pawl.ca, kind }
  if (connections === 'resumed')
    await load.perform({ do: 'remember', wish, request: requestText('GET', '/_ah/health') })
  const before = cpuSeconds(pawl.pid)
  await load.perform({ do: 'boots', wish, connections, concurrency: 16, nodes })
  return nodes.length / (cpuSeconds(pawl.pid) - before)
}
