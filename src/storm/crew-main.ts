import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { openPersonas } from './connections.ts'
import { HandshakeRoom } from './handshake-room.ts'
import { bootNode } from './node.ts'
import type { CrewPlan, FromCrew, ToCrew } from './plan.ts'
import { type Effort, Tally } from './tally.ts'
import { Ended } from './waits.ts'

/**
 * The entry of a client process. It is told its plan, boots its nodes, tells the news twice a second, and ends when it is told to
 * or when nobody is there to tell. Ctrl-C is for the command, which has to clean up: this process waits to be told.
 */
const newsMilliseconds = 500

const stopping = new AbortController()
const tally = new Tally()
const effort = measure()

process.on('SIGINT', () => undefined)
process.on('SIGTERM', () => undefined)
process.on('disconnect', () => process.exit(0))
process.on('message', (message: ToCrew) => {
  if (message.kind === 'stop') stopping.abort(new Ended('stopped'))
  else void run(message.plan)
})

async function run(plan: CrewPlan): Promise<void> {
  const personas = openPersonas(plan.target, plan.behaviour)
  const room = new HandshakeRoom((milliseconds) => tally.time('held-back', milliseconds))
  const crew = { plan, personas, room, tally, stop: stopping.signal }
  const timer = setInterval(() => tell({ kind: 'news', news: tally.news(effort()) }), newsMilliseconds)
  await Promise.all(plan.nodes.map(async (node) => tally.end(await bootNode(crew, node))))
  clearInterval(timer)
  tell({ kind: 'done', news: tally.news(effort()) })
}

function tell(message: FromCrew): void {
  if (process.connected) process.send?.(message)
}

/** What this process has done since it was asked last. */
function measure(): () => Effort {
  const delay = monitorEventLoopDelay({ resolution: 10 })
  delay.enable()
  let loop = performance.eventLoopUtilization()
  let cpu = process.cpuUsage()
  return () => {
    const now = performance.eventLoopUtilization()
    const used = process.cpuUsage(cpu)
    const busyLoop = performance.eventLoopUtilization(now, loop).utilization
    // The timer of the measurement itself comes every 10 ms.
    const lagMilliseconds = Math.max(0, Math.round(delay.max / 1e6 - 10))
    loop = now
    cpu = process.cpuUsage()
    delay.reset()
    return { cpuSeconds: (used.user + used.system) / 1e6, busyLoop, lagMilliseconds }
  }
}
