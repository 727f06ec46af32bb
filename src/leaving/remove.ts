import type { BootContext } from '../boot/context.ts'
import { type ErrorCode, isPawlError, PawlError } from '../errors.ts'
import { type By, change } from '../fleet/change.ts'
import { openHooks } from '../fleet/leave-settings.ts'
import { lock, removeNodeIn } from '../fleet/nodes.ts'
import { deleteNodeObject } from '../kubernetes/drain.ts'
import { isKubernetesError } from '../kubernetes/faults.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { clusterOf } from './drain.ts'

/**
 * Removes a node and, before it, its object in the cluster. The cluster first: where that fails nothing is removed, and the same request can be
 * made again. An object that is not there need not be removed.
 */
export async function removeNodeAndObject(context: BootContext, by: By, name: string): Promise<void> {
  const leave = await change(context, by, async (change) => {
    const node = await lock(change, name)
    const stored = node.profile === null ? undefined : await findProfile(change.tx, node.profile)
    const hooks = stored === undefined ? {} : openHooks(readProfile(stored), context.sealer)
    if (hooks.leave?.kind === 'kubernetes') return hooks.leave
    throw new PawlError(
      'conflict',
      `node "${name}" has no profile that knows its cluster: nothing was removed`,
      {
        hint: 'give its profile "leave" of kind kubernetes, or remove it without its object',
      },
    )
  })
  let found: boolean
  try {
    found = await deleteNodeObject(clusterOf(context, leave), name)
  } catch (error) {
    if (!isKubernetesError(error)) throw error
    throw new PawlError('cluster-failed', `nothing was removed: ${error.message}`, {
      hint: 'mend that and ask again, or remove the node without its object',
      cause: error,
    })
  }
  try {
    await change(context, by, async (change) => {
      await change.note('cluster-node-removed', name, { found })
      await removeNodeIn(change, name)
    })
  } catch (cause) {
    if (isPawlError(cause, 'not-found')) return // somebody else removed it meanwhile
    if (isPawlError(cause) && saidAsItIs.has(cause.code)) throw cause
    throw new PawlError('cluster-failed', `the cluster's object is gone, and node "${name}" is still here`, {
      hint: 'ask again: what is gone is passed over',
      cause,
    })
  }
}

/** These tell what to do as they are. The object is gone then, and the same request can be made again. */
const saidAsItIs: ReadonlySet<ErrorCode> = new Set(['precondition-failed', 'conflict', 'storage-unavailable'])
