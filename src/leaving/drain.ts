import type { BootContext } from '../boot/context.ts'
import type { KubernetesLeave } from '../domain/leave.ts'
import { type Kubernetes, openKubernetes } from '../kubernetes/client.ts'
import { deleteNodeObject, drainPass, isUnschedulable, setUnschedulable } from '../kubernetes/drain.ts'
import { isKubernetesError, KubernetesError } from '../kubernetes/faults.ts'
import { readKubeconfig } from '../kubernetes/kubeconfig.ts'
import type { LeavingRow } from '../storage/leaving-tables.ts'
import { isUnchanged } from '../storage/leavings.ts'
import type { StepOutcome } from './outcome.ts'

/** One step of a drain. What was there before is written down before anything is changed, so that it can be put back after a kill. */
export async function drainStep(
  context: BootContext,
  row: LeavingRow,
  leave: KubernetesLeave,
): Promise<StepOutcome> {
  return asOutcome(async () => {
    const api = clusterOfRow(context, row, leave)
    if (row.was_unschedulable === null) {
      const was = await isUnschedulable(api, row.name)
      const found = was ? { was_unschedulable: 1, cordoned: 0 } : { was_unschedulable: 0, cordoned: 1 }
      return { kind: 'again', changes: found }
    }
    try {
      await setUnschedulable(api, row.name, true)
    } catch (error) {
      // We removed it ourselves, and were killed before that was written down.
      if (leave.deleteNode === true && isKubernetesError(error, 'not-found'))
        return { kind: 'done', changes: { cordoned: 0 } }
      throw error
    }
    const pass = await drainPass(api, row.name, leave, row.passes)
    if (pass.kind === 'refused') return { kind: 'failed', cause: pass.message }
    if (pass.kind === 'draining')
      return { kind: 'waits', waitsFor: pass.waitsFor, seconds: betweenPassesSeconds }
    if (leave.deleteNode !== true) return { kind: 'done' }
    await deleteNodeObject(api, row.name)
    return { kind: 'done', changes: { cordoned: 0 } }
  })
}

/** Has the cluster schedule to a node again. One that is not there any more need not be. */
export async function uncordonStep(
  context: BootContext,
  row: LeavingRow,
  leave: KubernetesLeave,
): Promise<StepOutcome> {
  return asOutcome(async () => {
    try {
      await setUnschedulable(clusterOfRow(context, row, leave), row.name, false)
    } catch (error) {
      if (!isKubernetesError(error, 'not-found')) throw error
    }
    return { kind: 'done', changes: { cordoned: 0 } }
  })
}

const betweenPassesSeconds = 2
const afterFaultSeconds = 5
const longestPauseSeconds = 60
/** A pass of very many slow requests ends here, and the next one goes on. */
const passMilliseconds = 60_000

/** The API of a hook; its requests end together. */
export function clusterOf(
  { clock }: Pick<BootContext, 'clock'>,
  { kubeconfig }: KubernetesLeave,
): Kubernetes {
  const api = openKubernetes(readKubeconfig(kubeconfig), { clock })
  const until = performance.now() + passMilliseconds
  return {
    async request(method, path, body) {
      if (performance.now() > until)
        throw new KubernetesError('timeout', 'the Kubernetes API answers too slowly')
      return api.request(method, path, body)
    },
  }
}

/** What an operator took back meanwhile is not gone on with: each request that changes something is asked for first. */
function clusterOfRow(context: BootContext, row: LeavingRow, leave: KubernetesLeave): Kubernetes {
  const api = clusterOf(context, leave)
  return {
    async request(method, path, body) {
      if (method !== 'GET' && !(await isUnchanged(context.storage.db, row))) throw new Overtaken()
      return api.request(method, path, body)
    },
  }
}

class Overtaken extends Error {}

async function asOutcome(step: () => Promise<StepOutcome>): Promise<StepOutcome> {
  try {
    return await step()
  } catch (error) {
    if (error instanceof Overtaken) return { kind: 'overtaken' }
    if (!isKubernetesError(error)) throw error
    if (!error.passes) return { kind: 'failed', cause: error.message }
    const seconds = Math.min(error.retryAfterSeconds ?? afterFaultSeconds, longestPauseSeconds)
    return { kind: 'waits', waitsFor: error.message, seconds }
  }
}
