import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { postgresAbsent } from '../helpers/postgres.ts'
import { type Cluster, startCluster } from '../helpers/postgres-cluster.ts'
import type { PlayedNode } from './boot.ts'
import { requestText } from './exchange.ts'
import { type Lanes, type LoadProcess, startLoad } from './load.ts'
import { type Comparison, cpuSeconds, times } from './measure.ts'
import { makeDataFolder, makeFleet, type PawlSide, removeDataFolder, startPawl } from './pawl-side.ts'

/** Server processes: each a server of its own, or workers of one. */
interface Shape {
  readonly servers: number
  readonly workers: number
  readonly connections: Lanes['connections']
}

const alone: Shape = { servers: 1, workers: 1, connections: 'new' }
const growthRows: readonly (readonly [string, Shape])[] = [
  ['2 servers', { ...alone, servers: 2 }],
  ['4 servers', { ...alone, servers: 4 }],
  ['4 servers, resumed sessions', { ...alone, servers: 4, connections: 'resumed' }],
  ['1 server of 4 workers', { ...alone, workers: 4 }],
]
const limitRows: readonly (readonly [string, Shape])[] = [
  ['1 server', alone],
  ['4 servers', { ...alone, servers: 4 }],
]
/** Servers with a database each: what they spend more than one is their share of this machine's caches, and nobody's waiting. */
const apart = 'as many that share nothing'
const one = 'one process'
/** Boots at a time, whatever there is to serve them. */
const atOnce = 16

/**
 * What a boot costs servers on one PostgreSQL, beside as many that have one each, and beside one that has the same load alone. The processes
 * of a bench share its cores, so that boots by the clock cannot grow here; but as long as PostgreSQL is not what they wait for, a core
 * that is added serves the boots that its CPU is enough for: the first ratio is the growth by added core.
 */
export const replicaGrowth: Comparison = {
  name: 'replicas on PostgreSQL, whole boot',
  unit: 'boots per server CPU-second',
  better: 'more',
  sides: ['Pawl', apart, one],
  rows: growthRows.map(([name]) => ({ name, target: { of: 'ratio', bound: 0.8 } })),
  absent: postgresAbsent,
  open: async () => {
    const lab = await openPostgresLab()
    const run = async (side: string, row: number): Promise<number> => {
      const [, shape = alone] = growthRows[row] ?? []
      const { connections, servers, workers } = shape
      const spent =
        side === apart
          ? await bootApart(lab, servers * workers, connections)
          : await bootTogether(lab, side === one ? { ...alone, connections } : shape)
      return spent.boots / spent.servers
    }
    return { run, close: lab.close }
  },
}

/** Where PostgreSQL becomes the limit: what all its processes spend on a boot, beside what the servers do. The ratio is of cores. */
export const replicaLimit: Comparison = {
  name: 'replicas on PostgreSQL, their limit',
  unit: 'boots per CPU-second of PostgreSQL',
  better: 'more',
  sides: ['Pawl', 'of its servers'],
  rows: limitRows.map(([name]) => ({ name })),
  absent: postgresAbsent,
  open: async () => {
    const lab = await openPostgresLab()
    // Both sides are of one load: the second to be asked takes what the first has measured.
    const measured = new Map<number, Spent>()
    const run = async (side: string, row: number): Promise<number> => {
      const known = measured.get(row)
      const spent = known ?? (await bootTogether(lab, limitRows[row]?.[1] ?? alone))
      if (known === undefined) measured.set(row, spent)
      else measured.delete(row)
      return spent.boots / (side === 'Pawl' ? spent.postgres : spent.servers)
    }
    return { run, close: lab.close }
  },
}

/** A fleet on a database. */
interface Installation {
  /** Of each server one. */
  readonly dataDirs: readonly string[]
  readonly flags: readonly string[]
  readonly nodes: readonly PlayedNode[]
}

/** A PostgreSQL of its own with durable commits, and on it an installation of four servers, and four of one server each. */
interface PostgresLab {
  readonly postmaster: number
  readonly together: Installation
  readonly apart: readonly Installation[]
  close(): Promise<void>
}

async function openPostgresLab(): Promise<PostgresLab> {
  const closing: (() => unknown)[] = []
  const t = { teardown: (work: () => unknown) => closing.push(work) } as unknown as Test // all that is used of it
  const cluster = await startCluster(t)
  const together = await makeInstallation(cluster, 'together', 4, times(240))
  const apart: Installation[] = []
  for (let n = 0; n < 4; n += 1) apart.push(await makeInstallation(cluster, `apart${n}`, 1, times(120)))
  const [settings] = await cluster.query('show data_directory')
  const file = readFileSync(join(`${settings?.data_directory}`, 'postmaster.pid'), 'utf8')
  const close = async (): Promise<void> => {
    for (const { dataDirs } of [together, ...apart]) removeDataFolder(dataDirs[0] ?? '')
    for (const work of closing) await work()
  }
  return { postmaster: Number(file.split('\n')[0]), together, apart, close }
}

async function makeInstallation(
  cluster: Cluster,
  name: string,
  servers: number,
  nodes: number,
): Promise<Installation> {
  const database = await cluster.create(name)
  const dataDir = await makeDataFolder(['--database', database])
  const flags = ['--database', database, '--artifacts', join(dataDir, 'artifacts')]
  const copies = Array.from({ length: servers - 1 }, (_, n) => copyOf(dataDir, `${n}`))
  const first = await startPawl(dataDir, flags)
  const fleet = await makeFleet(first, nodes, { large: 2 ** 16, larger: 2 ** 16 })
  await first.stop()
  return { dataDirs: [dataDir, ...copies], flags, nodes: fleet }
}

/** The data folder of another server of the same installation: with owners and modes, on which a server insists. */
function copyOf(dataDir: string, name: string): string {
  const folder = join(dataDir, '..', name)
  mkdirSync(folder)
  if (spawnSync('cp', ['-a', dataDir, folder]).status !== 0) throw new Error('cp failed')
  return join(folder, 'data')
}

/** CPU seconds that so many boots have cost. */
interface Spent {
  readonly boots: number
  readonly servers: number
  readonly postgres: number
}

/** All servers have all nodes between them, and each request of a boot goes to the next. */
function bootTogether({ together, postmaster }: PostgresLab, shape: Shape): Promise<Spent> {
  const { dataDirs, flags, nodes } = together
  return withRig(async ({ start, loadOn }) => {
    const servers: PawlSide[] = []
    for (const dataDir of dataDirs.slice(0, shape.servers))
      servers.push(await start(dataDir, [...flags, '--workers', `${shape.workers}`]))
    const load = await loadOn(servers, shape.connections, atOnce)
    const processes = shape.servers * shape.workers
    return spend(servers, postmaster, processes, nodes.length, () => load(nodes))
  })
}

/** Each server has nodes of its own, on a database of its own. */
function bootApart(
  { together, apart, postmaster }: PostgresLab,
  count: number,
  connections: Lanes['connections'],
): Promise<Spent> {
  return withRig(async ({ start, loadOn }) => {
    const servers: PawlSide[] = []
    const loads: (() => Promise<unknown>)[] = []
    const each = Math.ceil(together.nodes.length / count)
    for (const { dataDirs, flags, nodes } of apart.slice(0, count)) {
      const server = await start(dataDirs[0] ?? '', flags)
      const load = await loadOn([server], connections, atOnce / count)
      servers.push(server)
      loads.push(() => load(nodes.slice(0, each)))
    }
    return spend(servers, postmaster, count, each * count, () => Promise.all(loads.map((load) => load())))
  })
}

/** Does a load until each process has read and compiled what it runs, and then once more: what that costs. */
async function spend(
  servers: readonly PawlSide[],
  postmaster: number,
  processes: number,
  boots: number,
  load: () => Promise<unknown>,
): Promise<Spent> {
  for (let n = 0; n < processes; n += 1) await load()
  const sum = (): number => servers.reduce((all, { pid }) => all + cpuSeconds(pid), 0)
  const [before, beforePostgres] = [sum(), cpuSeconds(postmaster)]
  await load()
  return { boots, servers: sum() - before, postgres: cpuSeconds(postmaster) - beforePostgres }
}

/** What starts servers and clients; all of them end with the work. */
interface Rig {
  start(dataDir: string, flags: readonly string[]): Promise<PawlSide>
  /** What boots nodes at these servers. */
  loadOn(
    servers: readonly PawlSide[],
    connections: Lanes['connections'],
    concurrency: number,
  ): Promise<(nodes: readonly PlayedNode[]) => Promise<unknown>>
}

async function withRig<T>(work: (rig: Rig) => Promise<T>): Promise<T> {
  const servers: PawlSide[] = []
  const loads: LoadProcess[] = []
  try {
    return await work({
      async start(dataDir, flags) {
        const server = await startPawl(dataDir, flags)
        servers.push(server)
        return server
      },
      async loadOn(to, connections, concurrency) {
        const load = startLoad()
        loads.push(load)
        const ports = to.map(({ bootPort }) => bootPort)
        const wish = { port: ports[0] ?? 0, ca: to[0]?.ca ?? '', kind: 'rsa' } as const
        // A ticket of one is good at all of them.
        if (connections === 'resumed')
          await load.perform({ do: 'remember', wish, request: requestText('GET', '/_ah/health') })
        return (nodes) => load.perform({ do: 'boots', wish, ports, connections, concurrency, nodes })
      },
    })
  } finally {
    for (const load of loads) load.close()
    await Promise.all(servers.map((server) => server.stop()))
  }
}
