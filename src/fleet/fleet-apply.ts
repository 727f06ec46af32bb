import type { BootContext } from '../boot/context.ts'
import { formatChannelRef } from '../domain/channel.ts'
import { systemChain } from '../domain/event.ts'
import { reliesOnAddress } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'
import { listChannels } from '../storage/channels.ts'
import { listProfiles, lockNodes, readProfile } from '../storage/fleet.ts'
import { type FleetKind, type FleetObjectRow, fleetKinds } from '../storage/fleet-file-tables.ts'
import {
  chainHead,
  deleteObjects,
  forgetEmptySet,
  listObjects,
  lockSet,
  putObjects,
  updateSet,
} from '../storage/fleet-files.ts'
import type { ChannelRow } from '../storage/image-tables.ts'
import { allNodes, nodesWithLiveSession } from '../storage/node-batch.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import { type By, type Change, change, notingTogether } from './change.ts'
import { applyChannels } from './fleet-channels.ts'
import { withAuthors } from './fleet-drift.ts'
import { applyExtensions } from './fleet-extensions.ts'
import { removeNodes, writeNodes } from './fleet-node-writes.ts'
import { type NodePlan, planNodes } from './fleet-nodes.ts'
import {
  emptyPlan,
  type FleetPlan,
  type FleetRequest,
  type KindPlan,
  keyOf,
  maxListedFaults,
  planDigest,
  type Records,
} from './fleet-plan.ts'
import { applyProfiles } from './fleet-profiles.ts'
import {
  countLeft,
  type Gone,
  goneFrom,
  noteRemovedNodes,
  planLastRemovals,
  removeRest,
} from './fleet-prune.ts'

/**
 * Applies fleet files, or with `dryRun` says what that would do. All of it is one transaction: the plan is made from what
 * the database holds under its locks, and done whole or not at all. Throws what the first fault is; a dry run tells all.
 * Throws `conflict` where the plan is not the one that was shown.
 */
export async function applyFleet(context: BootContext, by: By, request: FleetRequest): Promise<FleetPlan> {
  try {
    return await change(context, by, async (change) => {
      const plan = await carryOut(change, request)
      // What was tried in the transaction to find out is taken back.
      if (request.dryRun === true) throw new DryRun(plan)
      return plan
    })
  } catch (error) {
    if (error instanceof DryRun) return error.plan
    throw error
  }
}

/** Ends the transaction of a dry run. Not an error of anyone's. */
class DryRun extends Error {
  readonly plan: FleetPlan

  constructor(plan: FleetPlan) {
    super('a dry run')
    this.plan = plan
  }
}

async function carryOut(change: Change, request: FleetRequest): Promise<FleetPlan> {
  const { tx, context } = change
  const set = await lockSet(tx, context.storage.dialect, request.set)
  const records: Records = new Map((await listObjects(tx)).map((row) => [keyOf(row.kind, row.name), row]))
  refuseTwice(request)
  const upTo = await chainHead(tx, systemChain)
  const gone = goneFrom(request, records)
  // A profile is checked against the channels that it follows: those that point nowhere yet come before it, and those that
  // move come after, checked against the profiles that will be.
  const startedAt = new Set(
    (await listChannels(tx)).filter(({ version }) => version !== null).map(formatChannelRef),
  )
  const begun = (row: ChannelRow | undefined): boolean =>
    row !== undefined && startedAt.has(formatChannelRef(row))
  const noting = notingTogether(change)
  const extensions = await applyExtensions(noting.change, request, records)
  const first = await applyChannels(noting.change, request, records, (row) => !begun(row))
  const profiles = await applyProfiles(noting.change, request, records)
  const channels = await applyChannels(noting.change, request, records, begun)
  const { nodes, existing } = await planNodesOf(change, request, records, gone)
  const leaving = existing.filter((node) => request.prune === true && gone.node.includes(node.name))
  const removals = emptyPlan()
  const live = leaving.length === 0 ? new Set<string>() : await nodesWithLiveSession(tx)
  noteRemovedNodes(removals, leaving, live)
  const parts = [extensions, first, profiles, channels, nodes, removals]
  const last = await planLastRemovals(noting.change, request, gone, nodes, leaving)
  const plan = await planOf(change, request, [...parts, last], {
    before: existing.length,
    removed: leaving.length,
    left: request.prune === true ? 0 : await countLeft(change, gone, existing),
    upTo,
  })
  if (request.dryRun === true) return plan
  checkMayDo(request, plan)
  await removeNodes(change, leaving, live)
  await writeNodes(change, nodes)
  await removeRest(noting.change, gone, request)
  await noting.write()
  const written = await writeRecords(change, request, gone, [...parts, last])
  if (plan.changes.length + plan.counts.adopted + written > 0) await finish(change, set.name, request, plan)
  if (request.prune === true) await forgetEmptySet(tx, set.name)
  return { ...plan, applied: true }
}

/** The client finds these with their places; whoever speaks to the API itself learns of the first. */
function refuseTwice(request: FleetRequest): void {
  const lists: [FleetKind, string[]][] = [
    ['node', request.nodes.map(({ name }) => name)],
    ['profile', request.profiles.map(({ name }) => name)],
    ['channel', request.channels.map(({ channel }) => channel)],
    ['extension', (request.extensions ?? []).map(({ operation }) => operation)],
  ]
  for (const [kind, names] of lists) {
    const seen = new Set<string>()
    for (const name of names) {
      if (seen.has(name)) throw new PawlError('invalid', `${kind} "${name}" is there twice`)
      seen.add(name)
    }
  }
}

async function planNodesOf(
  change: Change,
  request: FleetRequest,
  records: Records,
  gone: Gone,
): Promise<{ nodes: NodePlan; existing: readonly NodeRecord[] }> {
  const { tx, context } = change
  const leaving = new Set(request.prune === true ? gone.node : [])
  await lockNodes(tx, context.storage.dialect, [...request.nodes.map(({ name }) => name), ...leaving])
  const existing = await allNodes(tx)
  const profiles = new Map(
    (await listProfiles(tx)).map((row) => [row.name, reliesOnAddress(readProfile(row))]),
  )
  if (request.prune === true) for (const name of gone.profile) profiles.delete(name)
  return { nodes: planNodes({ request, records, existing, leaving, profiles }), existing }
}

async function planOf(
  change: Change,
  request: FleetRequest,
  parts: readonly KindPlan[],
  nodes: { readonly before: number; readonly removed: number; readonly left: number; readonly upTo: number },
): Promise<FleetPlan> {
  const planned = parts.flatMap((part) => part.changes)
  const changes = request.dryRun === true ? await withAuthors(change.tx, planned, nodes.upTo) : planned
  const count = (action: string): number => changes.filter((one) => one.action === action).length
  const there = new Set(
    changes.filter(({ action }) => action === 'add').map(({ kind, name }) => keyOf(kind, name)),
  )
  const faults = parts.flatMap((part) => part.faults)
  return {
    set: request.set,
    plan: planDigest(
      request,
      planned,
      parts.flatMap((part) => part.based),
    ),
    applied: false,
    changes,
    faults: faults.slice(0, maxListedFaults),
    faultCount: faults.length,
    warnings: parts.flatMap((part) => part.warnings),
    counts: {
      added: count('add'),
      changed: count('change'),
      removed: count('remove'),
      unchanged: parts.reduce((sum, part) => sum + part.unchanged, 0),
      adopted: parts.flatMap((part) => part.newcomers).filter((object) => !there.has(object)).length,
      left: nodes.left,
    },
    nodes: { before: nodes.before, removed: nodes.removed },
    massRemoval: nodes.removed * 10 > nodes.before,
  }
}

/** Refuses what was not shown, what has faults, and what would remove a tenth of the fleet unasked. */
function checkMayDo(request: FleetRequest, plan: FleetPlan): void {
  const [fault] = plan.faults
  if (fault !== undefined) {
    const more = plan.faultCount - 1
    throw new PawlError(
      fault.code,
      `${fault.kind} "${fault.name}": ${fault.message}${more > 0 ? `; ${more} more of this kind` : ''}`,
      { hint: fault.hint ?? 'a dry run lists them' },
    )
  }
  if (request.plan !== undefined && request.plan !== plan.plan) {
    throw new PawlError('conflict', 'the fleet is another now than when this plan was made', {
      hint: 'look at what would be done now: pawl diff',
    })
  }
  if (!plan.massRemoval || request.allowMassRemoval === true) return
  const { removed, before } = plan.nodes
  throw new PawlError(
    'conflict',
    `this would remove ${removed} of ${before} nodes (${Math.floor((removed * 100) / before)} %), more than 10 %`,
    { hint: 'if that is meant, say so: pawl apply --yes --allow-mass-removal' },
  )
}

/** Writes down what the files said of each thing; returns how much of it is other than before. */
async function writeRecords(
  { tx }: Change,
  request: FleetRequest,
  gone: Gone,
  parts: readonly KindPlan[],
): Promise<number> {
  const objects: FleetObjectRow[] = parts.flatMap((part) => part.objects)
  await putObjects(tx, objects)
  if (request.prune === true) {
    for (const kind of fleetKinds) await deleteObjects(tx, kind, gone[kind])
  }
  return objects.length
}

async function finish(change: Change, set: string, request: FleetRequest, plan: FleetPlan): Promise<void> {
  const files = request.files ?? null
  const { actor } = change.by
  await updateSet(change.tx, { name: set, files, applied_at: change.now.toISOString(), applied_by: actor })
  const { counts, nodes } = plan
  await change.note('fleet-applied', null, {
    ...{ set, files, plan: plan.plan, prune: request.prune === true },
    counts,
    nodes,
  })
}
