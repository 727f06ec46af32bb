import { beginBoot, bootWhole } from './boot.ts'
import { type Answer, type Connection, openConnection } from './exchange.ts'
import type { Job, JobResult, Lanes } from './load.ts'

/** A process that plays clients: jobs come as messages, results go back. */
const held: Connection[] = []
let ticket: Buffer | undefined

process.on('message', async (job: Job) => {
  try {
    process.send?.({ result: await perform(job) })
  } catch (error) {
    process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
})

async function perform(job: Job): Promise<JobResult> {
  switch (job.do) {
    case 'requests': {
      const list = job.requests ?? []
      const count = job.count ?? list.length
      const milliseconds = await timed(job, count, async (ask, index) => {
        const request = list[index % list.length] ?? ''
        const { status, body } = await ask(request)
        if (status !== 200 && status !== 204) throw new Error(`${status} ${body.slice(0, 300)}`)
      })
      return { milliseconds }
    }
    case 'boots':
      return {
        milliseconds: await timed(job, job.nodes.length, (ask, index) =>
          bootWhole(ask, at(job.nodes, index)),
        ),
      }
    case 'begin': {
      const begun = new Array(job.nodes.length)
      await timed(job, job.nodes.length, async (ask, index) => {
        begun[index] = await beginBoot(ask, at(job.nodes, index))
      })
      return { begun }
    }
    case 'remember': {
      const connection = await openConnection(job.wish)
      await connection.ask(job.request)
      ticket = connection.session()
      connection.end()
      if (ticket === undefined) throw new Error('the server gave no session ticket')
      return {}
    }
    case 'hold':
      await hold(job)
      return {}
    case 'release':
      for (const connection of held.splice(0)) connection.end()
      return {}
  }
}

/** Does work in so many lanes at once, each on a connection that stays or on new ones; how long each piece took. */
async function timed(
  lanes: Lanes,
  count: number,
  work: (ask: (request: string) => Promise<Answer>, index: number) => Promise<void>,
): Promise<number[]> {
  const milliseconds: number[] = []
  const { ports = [lanes.wish.port] } = lanes
  let next = 0
  let opened = 0
  const open = (session?: Buffer): Promise<Connection> =>
    openConnection({ ...lanes.wish, port: at(ports, opened++ % ports.length) }, session)
  async function lane(): Promise<void> {
    let kept: Connection | undefined
    const ask = async (request: string): Promise<Answer> => {
      if (lanes.connections === 'kept') {
        kept ??= await open()
        return kept.ask(request)
      }
      const connection = await open(lanes.connections === 'resumed' ? ticket : undefined)
      try {
        return await connection.ask(request)
      } finally {
        connection.end()
      }
    }
    try {
      for (let index = next++; index < count; index = next++) {
        const before = performance.now()
        await work(ask, index)
        milliseconds.push(performance.now() - before)
      }
    } finally {
      kept?.end()
    }
  }
  await Promise.all(Array.from({ length: Math.min(lanes.concurrency, count) }, lane))
  return milliseconds
}

/** Connections that stay: each asks once; who stalls never reads the rest of its answer. */
async function hold({ wish, count, requests, stall }: Extract<Job, { do: 'hold' }>): Promise<void> {
  let opened = 0
  async function lane(): Promise<void> {
    while (opened < count) {
      const request = requests[opened % requests.length] ?? ''
      opened += 1
      const connection = await openConnection(wish)
      held.push(connection)
      if (!stall) {
        await connection.ask(request)
        continue
      }
      connection.socket.removeAllListeners('data')
      const first = new Promise((resolve) => connection.socket.once('readable', resolve))
      connection.socket.pause()
      connection.socket.write(request)
      await first
    }
  }
  await Promise.all(Array.from({ length: Math.min(32, count) }, lane))
}

function at<Item>(items: readonly Item[], index: number): Item {
  return items[index] as Item // counted to its length
}
