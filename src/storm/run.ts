import { setMaxListeners } from 'node:events'
import type { Manifest } from '../domain/image.ts'
import type { ImageSignature } from '../domain/signature.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { OperatorApi } from './api.ts'
import { removeStorm } from './cleanup.ts'
import { startCrews } from './crews.ts'
import { type Aim, findTarget, registerFleet, simulatedNodes } from './fleet.ts'
import { publishImages } from './images.ts'
import { ServerWatch, type Watch, watchMachine } from './load.ts'
import type { Behaviour } from './plan.ts'
import { sampleRecords } from './records.ts'
import { resultOf, type StormResult } from './result.ts'
import { StatusWatch } from './status-watch.ts'
import { Totals } from './totals.ts'
import { checkTruth, type Truth } from './truth.ts'
import { Ended, wait } from './waits.ts'

/** What a storm is asked to be. */
export interface StormOrder {
  readonly id: string
  readonly nodes: number
  /** 0: all at once. */
  readonly arrivalSeconds: number
  readonly imageMib: number
  readonly processes: number
  readonly behaviour: Behaviour
  readonly aim: Aim
  /** Nodes that are not ready by then are given up. */
  readonly giveUpSeconds: number
  readonly signer: { readonly publisher: string; sign(manifest: Manifest): ImageSignature } | undefined
}

/** What a storm is given to work with. */
export interface StormTools {
  readonly api: OperatorApi
  readonly env: Readonly<Record<string, string | undefined>>
  /** The id of the server's process where it is on this machine, as often as it is asked. */
  readonly serverProcess: () => number | undefined
  /** Aborted when the user ends the storm. */
  readonly stop: AbortSignal
  readonly show: StormView
}

/** What is shown while it runs. */
export interface StormView {
  /** A step of preparing or cleaning up begins. */
  step(text: string): void
  progress(totals: Totals, seconds: number, expected: number): void
}

const lookMilliseconds = 1000
/** A server that is being started again is waited for, so that it does not keep what a storm made. */
const patienceSeconds = 60
const pauseSeconds = 2

/**
 * Makes nodes of its own, boots them all, compares what they saw with what the server says, and removes all of it, however it ends.
 * Throws what went wrong; a storm that nodes did not survive is a result.
 */
export async function runStorm(order: StormOrder, tools: StormTools): Promise<StormResult> {
  setMaxListeners(0, tools.stop)
  try {
    return await measure(order, tools)
  } finally {
    tools.show.step('removing its nodes and images')
    await patiently(() => removeStorm(tools.api, order.id)).catch((cause: unknown) => {
      throw new PawlError('conflict', `what the storm made could not be removed: ${messageOf(cause)}`, {
        cause,
        hint: `remove it with pawl storm clean ${order.id} --yes`,
      })
    })
  }
}

async function measure(
  order: StormOrder,
  { api, env, serverProcess, stop, show }: StormTools,
): Promise<StormResult> {
  const { id, nodes: count, signer, behaviour } = order
  const { target, evidence } = await findTarget(api, order.aim)
  show.step(`publishing images of ${order.imageMib} MiB`)
  const digests = await publishImages(api, id, order.imageMib, signer?.sign)
  refuseStopped(stop)
  show.step(`registering ${count} nodes`)
  const fleet = { id, nodes: count, evidence, publisher: signer?.publisher }
  const since = await registerFleet(api, fleet)
  const nodes = await simulatedNodes(
    api,
    fleet,
    order.arrivalSeconds,
    (issued) => {
      if (issued % 500 === 0) show.step(`${issued} of ${count} secrets`)
    },
    stop,
  )
  refuseStopped(stop)
  const [probe] = nodes.splice(count)
  const plan = { target, digests, behaviour }
  const records = probe === undefined ? undefined : await sampleRecords(plan, probe)
  show.step(`${count} nodes power on`)
  const totals = new Totals()
  const watch: Watch = serverProcess() === undefined ? new StatusWatch(api) : new ServerWatch(serverProcess)
  const machine = watchMachine()
  const begun = performance.now()
  const seconds = (): number => (performance.now() - begun) / 1000
  await watch.look()
  let lastReady = 0
  const crews = startCrews(plan, nodes, order.processes, env, (news) => {
    totals.add(news)
    if (news.results.some(({ ready }) => ready)) lastReady = seconds()
  })
  const timer = setInterval(() => {
    void watch.look()
    show.progress(totals, seconds(), count)
  }, lookMilliseconds)
  try {
    await ended(crews, order.giveUpSeconds, stop)
  } finally {
    clearInterval(timer)
  }
  const busy = machine()
  await watch.look(true)
  show.progress(totals, seconds(), count)
  const truth = stop.aborted ? null : await askTruth(api, id, totals, since, show)
  return resultOf(totals, {
    ...{ id, nodes: count, evidence, records, truth },
    seconds: totals.ready === count ? lastReady : seconds(),
    processes: order.processes,
    server: watch.result(),
    machine: busy,
  })
}

function askTruth(
  api: OperatorApi,
  id: string,
  totals: Totals,
  since: string,
  show: StormView,
): Promise<Truth> {
  show.step('asking the server what it knows')
  return patiently(() => checkTruth(api, id, totals.results, since))
}

/** Until all nodes are through, or they are given up, or the user ends it. */
async function ended(
  crews: ReturnType<typeof startCrews>,
  giveUpSeconds: number,
  stop: AbortSignal,
): Promise<void> {
  const over = new AbortController()
  const onStop = (): void => over.abort(stop.reason)
  stop.addEventListener('abort', onStop, { once: true })
  const limit = wait(giveUpSeconds, over.signal).catch(() => undefined)
  try {
    const through = crews.done.then(() => true)
    if (stop.aborted) onStop()
    if (await Promise.race([through, limit.then(() => false)])) return
    crews.stop()
    await crews.done
  } catch (error) {
    crews.kill()
    throw error
  } finally {
    over.abort(new Ended('stopped'))
    stop.removeEventListener('abort', onStop)
  }
}

function refuseStopped(stop: AbortSignal): void {
  if (stop.aborted) throw new PawlError('conflict', 'the storm was ended before its nodes were through')
}

/** Asks again while the server is away. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  for (;;) {
    try {
      return await work()
    } catch (error) {
      const passing =
        isPawlError(error, 'unreachable') ||
        isPawlError(error, 'overloaded') ||
        isPawlError(error, 'storage-unavailable')
      if (!passing || performance.now() - begun > patienceSeconds * 1000) throw error
      await new Promise((resolve) => setTimeout(resolve, pauseSeconds * 1000))
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
