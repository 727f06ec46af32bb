import { requestText } from './exchange.ts'
import { openLab } from './lab.ts'
import { type Comparison, cpuSeconds, times } from './measure.ts'
import { startMinimal } from './minimal-side.ts'

const work = [
  { name: 'one node', path: '/nodes/bench0', document: 'node', count: 1500 },
  { name: 'a page of 100 nodes', path: '/nodes?limit=100', document: 'page', count: 150 },
]

/** The operators' API, on connections that stay, with sign-in by token and the database asked each time. */
export const api: Comparison = {
  name: 'operator API, kept connections',
  unit: 'requests per server CPU-second',
  better: 'more',
  sides: ['Pawl', 'Fastify with the document in memory'],
  rows: work.map(({ name }) => ({ name })),
  absent: () => undefined,
  open: async () => {
    const { pawl, load } = await openLab()
    const documents: Record<string, unknown> = {}
    for (const { path, document } of work) documents[document] = await pawl.api('GET', path)
    const minimal = await startMinimal(pawl.dataDir, documents)
    return {
      run: async (side, row) => {
        const { path, document, count } = work[row] ?? { path: '', document: '', count: 0 }
        const ours = side === 'Pawl'
        const { pid } = ours ? pawl : minimal
        const wish = { port: ours ? pawl.operatorPort : minimal.port, ca: pawl.ca, kind: 'modern' } as const
        const request = requestText('GET', ours ? `/api/v1${path}` : `/${document}`, {
          Authorization: `Bearer ${pawl.token}`,
        })
        const done = times(count)
        const before = cpuSeconds(pid)
        await load.perform({
          ...{ do: 'requests', wish, connections: 'kept', concurrency: 4 },
          ...{ requests: [request], count: done },
        })
        return done / (cpuSeconds(pid) - before)
      },
      close: () => minimal.stop(),
    }
  },
}
