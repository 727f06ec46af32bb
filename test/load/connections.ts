import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { requestText } from './exchange.ts'
import { requestsOf } from './images.ts'
import { startLoad } from './load.ts'
import { type Comparison, memoryKB, times } from './measure.ts'
import { nginxAbsent, startNginx } from './nginx-side.ts'
import { cacheFlags, makeDataFolder, makeFleet, removeDataFolder, startPawl } from './pawl-side.ts'

const work = [
  { name: 'idle, behind one request', count: 4000, stall: false, bound: 60 },
  { name: 'a reader that stalls in a 32 MB file', count: 800, stall: true, bound: 250 },
]
/** All are of one address and a few sessions, and stay while the others come. */
const flags = [
  ...cacheFlags,
  ...[
    '--idle-timeout-seconds',
    '600',
    '--stall-timeout-seconds',
    '600',
    '--max-downloads-per-session',
    '1000',
  ],
]

/** Memory that a connection takes. Each time a server of its own: what one has had it does not give back. */
export const connectionMemory: Comparison = {
  name: 'memory per connection',
  unit: 'KB',
  better: 'less',
  sides: ['Pawl', 'nginx'],
  rows: work.map(({ name, bound }) => ({ name, target: { of: 'value', bound } })),
  absent: nginxAbsent,
  open: async () => {
    const dataDir = await makeDataFolder()
    const first = await startPawl(dataDir, flags)
    const nodes = await makeFleet(first, 16)
    const ca = first.ca
    await first.stop()
    return {
      run: async (side, row) => {
        const { count, stall } = work[row] ?? { count: 1, stall: false }
        const pawl = await startPawl(dataDir, flags)
        const files = { large: join(dataDir, '..', 'large') }
        const nginx = await startNginx({ dataDir, files, texts: { ok: 'ok' } })
        const load = startLoad()
        try {
          const fetches = await requestsOf(pawl, nodes)
          const ours = side === 'Pawl'
          const { pid } = ours ? pawl : nginx
          const wish = { port: ours ? pawl.bootPort : nginx.port, ca, kind: 'rsa' } as const
          const requests = stall
            ? nodes.map((_, index) => fetches(side, 'large', index))
            : [requestText('GET', ours ? '/_ah/health' : '/ok')]
          // Some before, of which one reads all: code and the file itself are in memory then.
          const fetchOne = {
            do: 'requests',
            wish,
            connections: 'new',
            concurrency: 1,
            requests,
            count: 1,
          } as const
          await load.perform(fetchOne)
          const few = { do: 'hold', wish, count: 50, requests, stall } as const
          await load.perform(few)
          await sleep(1000)
          const before = memoryKB(pid)
          const many = times(count)
          await load.perform({ ...few, count: many })
          await sleep(2000)
          return (memoryKB(pid) - before) / many
        } finally {
          load.close()
          await Promise.all([pawl.stop(), nginx.stop()])
        }
      },
      close: async () => removeDataFolder(dataDir),
    }
  },
}
