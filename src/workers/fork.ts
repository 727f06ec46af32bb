import cluster from 'node:cluster'
import type { WorkerProcess } from './crew.ts'

/** The name of the variable that tells a process which worker it is. No setting: only the keeper sets it. */
export const workerVariable = 'PAWL_WORKER'

/**
 * Starts workers by node:cluster. They share the listening sockets, and each takes connections for itself: with Node's round robin
 * every connection would go through the keeper first. Node runs them with the keeper's own flags.
 */
export function forking(entry: string): (worker: number) => WorkerProcess {
  cluster.schedulingPolicy = cluster.SCHED_NONE
  return (number) => {
    cluster.setupPrimary({
      exec: entry,
      args: ['worker', String(number)], // for who looks at a list of processes
      execArgv: process.execArgv,
      serialization: 'advanced', // signatures are bytes
    })
    const worker = cluster.fork({ [workerVariable]: String(number) })
    worker.on('error', () => {}) // its end is told by 'exit'
    const { process: child } = worker
    return {
      id: child.pid,
      send(message, done) {
        if (!worker.isConnected()) return done()
        child.send(message as object, () => done())
      },
      onMessage: (listener) => worker.on('message', listener),
      onExit: (listener) => worker.once('exit', (code, signal) => listener({ code, signal })),
      kill: () => void child.kill('SIGKILL'),
    }
  }
}
