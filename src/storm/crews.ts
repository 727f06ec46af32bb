import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import type { CrewPlan, FromCrew, News, SimulatedNode, ToCrew } from './plan.ts'

/** The client processes of a storm. */
export interface Crews {
  /** Resolves when each has ended its nodes; rejects where one died. */
  readonly done: Promise<void>
  /** Tells them to end what they are at. */
  stop(): void
  /** Ends them at once. */
  kill(): void
}

/** What of the environment a process of ours needs. */
const inherited = ['NODE_COMPILE_CACHE', 'NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS'] as const

/** How long a process may take to end its nodes when it is told to. */
const stopMilliseconds = 10_000

/** Starts so many processes, and gives each its part of the nodes. */
export function startCrews(
  plan: Omit<CrewPlan, 'nodes'>,
  nodes: readonly SimulatedNode[],
  processes: number,
  env: Readonly<Record<string, string | undefined>>,
  onNews: (news: News) => void,
): Crews {
  const kept = Object.fromEntries(
    inherited.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])),
  )
  const children = Array.from({ length: processes }, (_, which) => {
    const share = nodes.filter(({ index }) => index % processes === which)
    return startCrew({ ...plan, nodes: share }, kept, onNews)
  })
  return {
    done: Promise.all(children.map(({ done }) => done)).then(() => undefined),
    stop() {
      for (const { child } of children) {
        if (child.connected) child.send({ kind: 'stop' } satisfies ToCrew)
        setTimeout(() => child.kill('SIGKILL'), stopMilliseconds).unref()
      }
    },
    kill() {
      for (const { child } of children) child.kill('SIGKILL')
    },
  }
}

function startCrew(
  plan: CrewPlan,
  env: Record<string, string | undefined>,
  onNews: (news: News) => void,
): { child: ChildProcess; done: Promise<void> } {
  const child = fork(join(import.meta.dirname, 'crew-main.ts'), [], {
    env,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  // Its secrets go by this channel: never in argv or the environment.
  child.send({ kind: 'go', plan } satisfies ToCrew)
  const done = new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('message', (message: FromCrew) => {
      onNews(message.news)
      if (message.kind !== 'done') return
      resolve()
      child.disconnect()
    })
    child.once('exit', (code, signal) => {
      // Without effect where it was done.
      reject(
        new PawlError('internal', `a client process ended with ${signal ?? code} in the middle of the storm`),
      )
    })
  })
  return { child, done }
}
