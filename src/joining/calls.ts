import { BrokerFault } from './broker.ts'

/**
 * Bounds on what is asked of clusters: of ten thousand machines that join at once a few are being served, a few wait, and the others are
 * told to come again before anything is held for them. A cluster that does not answer is left alone for a while: whoever comes
 * meanwhile is told so at once, and then one call tries it.
 */
export interface BackendCalls {
  /** Runs a call to a cluster, or throws: `Busy` where there is no room, a BrokerFault where the cluster has just failed. */
  run<T>(backend: string, call: () => Promise<T>): Promise<T>
  /** Calls under way and waiting, of all clusters. */
  readonly load: () => { readonly calling: number; readonly waiting: number }
}

/** There is no room for one more. */
export class Busy extends Error {
  override readonly name = 'Busy'
}

/** Its bounds, of one process. */
export interface CallLimits {
  /** Calls under way at one cluster. */
  readonly calls: number
  /** Those that wait for it. */
  readonly waiting: number
  /** Calls and waiters of all clusters together: fewer than one process works on at a time, so that the boots of others go on. */
  readonly held: number
  readonly waitMilliseconds: number
  /** For how long a cluster that did not answer is not asked. */
  readonly restMilliseconds: number
}

interface Backend {
  calling: number
  readonly queue: Waiter[]
  /** Why it is not asked until then. */
  fault: BrokerFault | undefined
  restsUntil: number
}

interface Waiter {
  readonly go: () => void
  readonly refuse: (error: Error) => void
}

const silent: ReadonlySet<string> = new Set(['unreachable', 'timeout'])

/** Opens it. `now` is in milliseconds and only runs forward. */
export function openBackendCalls(limits: CallLimits, now: () => number): BackendCalls {
  const backends = new Map<string, Backend>()

  const load: BackendCalls['load'] = () => {
    let [calling, waiting] = [0, 0]
    for (const backend of backends.values()) {
      calling += backend.calling
      waiting += backend.queue.length
    }
    return { calling, waiting }
  }

  /** Resolves when a call may begin. */
  function turn(backend: Backend): Promise<void> {
    // One call tries whether it answers again.
    const most = backend.fault === undefined ? limits.calls : 1
    const { calling, waiting } = load()
    if (backend.fault !== undefined && (backend.restsUntil > now() || backend.calling >= most))
      throw backend.fault
    if (calling + waiting >= limits.held) throw new Busy('as many joins as may are being served')
    if (backend.calling < most) {
      backend.calling += 1
      return Promise.resolve()
    }
    if (backend.queue.length >= limits.waiting) throw new Busy('as many joins as may wait for this cluster')
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        go: () => {
          clearTimeout(timer)
          resolve()
        },
        refuse: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      }
      const timer = setTimeout(() => {
        backend.queue.splice(backend.queue.indexOf(waiter), 1)
        reject(new Busy('the cluster takes longer than a join may wait'))
      }, limits.waitMilliseconds)
      backend.queue.push(waiter)
    })
  }

  /** Gives the turn on: its place is handed over, so that nobody comes between. */
  function next(name: string, backend: Backend): void {
    if (backend.fault !== undefined) {
      for (const waiter of backend.queue.splice(0)) waiter.refuse(backend.fault)
    }
    const waiter = backend.queue.shift()
    if (waiter !== undefined) waiter.go()
    else backend.calling -= 1
    if (backend.calling === 0 && backend.fault === undefined) backends.delete(name)
  }

  return {
    load,
    async run(name, call) {
      const backend = backends.get(name) ?? { calling: 0, queue: [], fault: undefined, restsUntil: 0 }
      backends.set(name, backend)
      await turn(backend)
      try {
        const done = await call()
        backend.fault = undefined
        return done
      } catch (error) {
        if (error instanceof BrokerFault) {
          const quiet = silent.has(error.fault)
          backend.fault = quiet ? error : undefined
          backend.restsUntil = quiet ? now() + limits.restMilliseconds : 0
        }
        throw error
      } finally {
        next(name, backend)
      }
    },
  }
}
