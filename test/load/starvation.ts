import { spawn, spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { type PlayedNode, stage1Request } from './boot.ts'
import { requestText } from './exchange.ts'
import { clientArguments, type FileRequests, placeOf, requestsOf } from './images.ts'
import { type Lab, openLab } from './lab.ts'
import { absentProgram } from './load.ts'
import { type Comparison, percentile, times, treeOf } from './measure.ts'
import { nginxAbsent } from './nginx-side.ts'

const downloaders = 64

/**
 * What a stage request waits while others download at full speed, as a multiple of what it waits when nothing else goes on. The server has one
 * core, all clients the others, where there are some: else the clients would take from the server what is measured.
 */
export const starvation: Comparison = {
  name: `stage requests while ${downloaders} clients download`,
  unit: 'times the idle 99th percentile',
  better: 'less',
  sides: ['Pawl', 'nginx (static file)'],
  rows: [{ name: 'stage 1, new RSA-2048 connections', target: { of: 'value', bound: 5 } }],
  absent: () =>
    nginxAbsent() ?? absentProgram('taskset') ?? (cpus().length < 2 ? 'needs two cores' : undefined),
  open: async () => {
    const lab = await openLab()
    const requests = await requestsOf(lab.pawl, downloading(lab))
    const last = cpus().length - 1
    for (const pid of [lab.pawl.pid, lab.nginx.pid]) pin(pid, '0')
    pin(lab.load.pid, `1-${last}`)
    return {
      run: async (side) => {
        const idle = await waits(lab, side)
        const stop = download(lab, side, requests, `1-${last}`)
        // The first megabytes are sent before it counts.
        await new Promise((resolve) => setTimeout(resolve, 1500))
        const busy = await waits(lab, side)
        stop()
        return busy / idle
      },
      close: async () => {
        for (const pid of [lab.pawl.pid, lab.nginx.pid, lab.load.pid]) pin(pid, `0-${last}`)
      },
    }
  },
}

/** Nodes that download, and nodes that boot: a stage 1 of one that downloads would end its session. */
function downloading({ nodes }: Lab): readonly PlayedNode[] {
  return nodes.slice(0, Math.ceil(nodes.length / 3))
}

function booting({ nodes }: Lab): readonly PlayedNode[] {
  return nodes.slice(Math.ceil(nodes.length / 3))
}

function pin(pid: number, cores: string): void {
  for (const each of treeOf(pid)) spawnSync('taskset', ['-apc', cores, String(each)], { stdio: 'ignore' })
}

/** The 99th percentile of durable stage 1s on new connections, two at a time: as those of a few machines are. */
async function waits(lab: Lab, side: string): Promise<number> {
  const wish = { port: placeOf(lab, side).port, ca: lab.pawl.ca, kind: 'rsa' } as const
  const { milliseconds = [] } = await lab.load.perform({
    ...{ do: 'requests', wish, connections: 'new', concurrency: 2 },
    ...{ requests: side === 'Pawl' ? booting(lab).map(stage1Request) : [requestText('GET', '/stage')] },
    ...{ count: times(400) },
  })
  return percentile(milliseconds, 99)
}

/** Clients that fetch again and again until they are stopped, after all others where the system is asked for a core. */
function download(lab: Lab, side: string, requests: FileRequests, cores: string): () => void {
  const { port } = placeOf(lab, side)
  const children = new Set<ReturnType<typeof spawn>>()
  let isOver = false
  const again = (client: number): void => {
    if (isOver) return
    const args = ['-c', cores, 'nice', '-n', '19', 'openssl', ...clientArguments(port)]
    const child = spawn('taskset', args, { stdio: ['pipe', 'ignore', 'ignore'] })
    children.add(child)
    child.stdin?.on('error', () => {}) // it was stopped before it read
    child.stdin?.write(requests(side, 'large', client))
    child.on('close', () => {
      children.delete(child)
      again(client)
    })
  }
  for (let client = 0; client < times(downloaders); client += 1) again(client)
  return () => {
    isOver = true
    for (const child of children) child.kill('SIGKILL')
  }
}
