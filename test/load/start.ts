import { requestText } from './exchange.ts'
import { makeLargeDataFolder } from './large-database.ts'
import { startLoad } from './load.ts'
import { type Comparison, percentile, times } from './measure.ts'
import { startMinimal } from './minimal-side.ts'
import { makeDataFolder, type PawlSide, removeDataFolder, startPawl } from './pawl-side.ts'

const minimal = 'Fastify with nothing in it'

/** From the command to the ready line, by the clock: compiled code is kept from the start before, as in operation. */
export const startTime: Comparison = {
  name: 'start to ready',
  unit: 'seconds',
  better: 'less',
  sides: ['Pawl', minimal],
  rows: [
    { name: 'a new installation' },
    { name: '10,000 nodes, 1,000,000 events', target: { of: 'value', bound: 1 }, sides: ['Pawl'] },
  ],
  absent: () => undefined,
  open: async () => {
    const small = await makeDataFolder()
    await (await startPawl(small)).stop()
    const large = await largeFolder()
    return {
      run: async (side, row) => {
        const before = performance.now()
        const server =
          side === minimal ? await startMinimal(small, {}) : await startPawl(row === 0 ? small : large)
        const seconds = (performance.now() - before) / 1000
        await server.stop()
        return seconds
      },
      close: async () => removeDataFolder(small),
    }
  },
}

const lists = [
  { name: 'a page of nodes', path: '/nodes?limit=100' },
  { name: 'nodes by label', path: '/nodes?label=site%3Ds7&limit=100' },
  { name: 'nodes by pattern', path: '/nodes?match=*999*&limit=100' },
  { name: 'the last events of a node', path: '/events?node=node47&limit=100' },
  { name: 'the timeline of a node', path: '/nodes/node47/timeline' },
]

/** What an operator waits for with a large record, one request after the other. */
export const listTimes: Comparison = {
  name: '10,000 nodes, 1,000,000 events',
  unit: 'ms, 99th percentile',
  better: 'less',
  sides: ['Pawl'],
  rows: lists.map(({ name }) => ({ name, target: { of: 'value', bound: 50 } })),
  absent: () => undefined,
  open: async () => {
    const pawl: PawlSide = await startPawl(await largeFolder())
    const load = startLoad()
    const wish = { port: pawl.operatorPort, ca: pawl.ca, kind: 'modern' } as const
    return {
      run: async (_side, row) => {
        const request = requestText('GET', `/api/v1${lists[row]?.path}`, {
          Authorization: `Bearer ${pawl.token}`,
        })
        const job = {
          do: 'requests',
          wish,
          connections: 'kept',
          concurrency: 1,
          requests: [request],
        } as const
        // Some before: code that runs for the first time is read and compiled.
        await load.perform({ ...job, count: times(50) })
        const { milliseconds = [] } = await load.perform({ ...job, count: times(200) })
        return percentile(milliseconds, 99)
      },
      close: async () => {
        load.close()
        await pawl.stop()
      },
    }
  },
}

let large: Promise<string> | undefined

/** Made once: it takes half a minute. */
function largeFolder(): Promise<string> {
  large ??= makeLargeDataFolder()
  return large
}

/** Removes it, where it was made. */
export async function closeLargeFolder(): Promise<void> {
  if (large !== undefined) removeDataFolder(await large)
}
