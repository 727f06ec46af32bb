import { leaveCampaigns } from '../boot/campaign.ts'
import type { BootContext } from '../boot/context.ts'
import { endSession } from '../boot/end-session.ts'
import { countAnew, notLooping } from '../boot/stage1-limit.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { parseNodeName } from '../domain/node.ts'
import { advance, type NodeState, nodeTransitions } from '../domain/state.ts'
import { PawlError } from '../errors.ts'
import { deleteNode, insertNode, retireTokensOf } from '../storage/fleet.ts'
import { findNode, lockNode, type NodeRecord, updateNode } from '../storage/nodes.ts'
import { removeClaim } from '../storage/pending.ts'
import { findLiveSession, findNewestSession } from '../storage/sessions.ts'
import type { NodeRow } from '../storage/tables.ts'
import { type By, type Change, change, noSuchNode } from './change.ts'
import {
  checkSettings,
  difference,
  type NodeChanges,
  type NodeSettings,
  noSettings,
  settingsOf,
  shown,
  warningsOf,
  withChanges,
  writeLists,
} from './node-settings.ts'
import { type NodeView, showNode } from './node-view.ts'
import { requireRevision } from './revision.ts'

/** A node to add. */
export interface NewNode extends NodeChanges {
  readonly name: string
}

/** A node as it is after a change, with what the operator should know about it. */
export interface ChangedNode {
  readonly node: NodeView
  readonly warnings: readonly string[]
}

/** Adds a node; throws `exists` rather than overwrite. */
export async function addNode(context: BootContext, by: By, asked: NewNode): Promise<ChangedNode> {
  const name = parseNodeName(asked.name)
  const settings = withChanges(noSettings, asked)
  return change(context, by, async (change) => {
    await refuseExisting(change, name)
    const added = await addNodeIn(change, name, settings, 'registered')
    await change.note('node-added', name, shown(settings))
    return added
  })
}

/** Adds a node inside a change that has its own event. */
export async function addNodeIn(
  change: Change,
  name: string,
  settings: NodeSettings,
  state: NodeState,
): Promise<ChangedNode> {
  await checkSettings(change, name, settings)
  const row = freshNode(change, name, settings, state)
  const { id } = row
  await insertNode(change.tx, row)
  await writeLists(change, id, settings)
  return {
    node: await showNode(change.tx, name),
    warnings: await warningsOf(change, { id, name }, settings),
  }
}

/** The row of a node that is new. */
export function freshNode(
  { context, now }: Change,
  name: string,
  settings: NodeSettings,
  state: NodeState,
): NodeRow {
  return {
    id: Buffer.from(context.randomBytes(9)).toString('base64url'),
    name,
    state,
    profile: settings.profile,
    failure_cause: null,
    uuid: settings.uuid,
    serial: settings.serial,
    labels: canonicalJson(settings.labels),
    reinstall: 'none',
    reinstall_attempts: 0,
    reinstall_session: null,
    armed: 0,
    ...notLooping,
    wireguard_public_key: null,
    secret_id: null,
    secret_hash: null,
    last_facts: null,
    session: null,
    created_at: now.toISOString(),
    updated_at: now.toISOString(),
    revision: 1,
  }
}

/** Throws `exists` where a node has this name. */
export async function refuseExisting({ tx }: Change, name: string): Promise<void> {
  if ((await findNode(tx, name)) === undefined) return
  throw new PawlError('exists', `node "${name}" exists`, {
    hint: `change it with pawl node set ${name}`,
  })
}

/** Changes what was given of a node's settings, and nothing else. Nothing changed, nothing recorded. */
export function changeNode(
  context: BootContext,
  by: By,
  name: string,
  asked: NodeChanges,
): Promise<ChangedNode> {
  return change(context, by, (change) => changeNodeIn(change, name, asked))
}

/** The same inside a change. */
export async function changeNodeIn(change: Change, name: string, asked: NodeChanges): Promise<ChangedNode> {
  const node = await lock(change, name)
  const before = settingsOf(node)
  const after = withChanges(before, asked)
  await checkSettings(change, name, after)
  const changed = difference(before, after)
  if (changed !== undefined) {
    await updateNode(change.tx, node.id, {
      profile: after.profile,
      uuid: after.uuid,
      serial: after.serial,
      labels: canonicalJson(after.labels),
      updated_at: change.now.toISOString(),
    })
    await writeLists(change, node.id, after)
    await change.note('node-changed', name, changed)
  }
  return { node: await showNode(change.tx, name), warnings: await warningsOf(change, node, after) }
}

/** How the place of a node that is removed ends: who waits for it is marked at once. */
export const nodeRemoved = { state: 'cancelled', cause: 'it was removed' } as const

/** Removes a node: its tokens are spent, its downloads cut. Its events stay. */
export function removeNode(context: BootContext, by: By, name: string): Promise<void> {
  return change(context, by, (change) => removeNodeIn(change, name))
}

/** The same inside a change. */
export async function removeNodeIn(change: Change, name: string): Promise<void> {
  const node = await stop(change, await lock(change, name), 'the node was removed')
  await leaveCampaigns(change, [node], nodeRemoved)
  await change.note('node-removed', name, { ...shown(settingsOf(node)), state: node.state })
  await deleteNode(change.tx, node.id)
}

/** Disables a node: its tokens are spent, its downloads cut, and it is refused until it is enabled. */
export function disableNode(context: BootContext, by: By, name: string): Promise<NodeView> {
  return change(context, by, async (change) => {
    const found = await lock(change, name)
    if (found.state === 'disabled') {
      throw new PawlError('conflict', `node "${name}" is disabled already`, {
        hint: `enable it with pawl node enable ${name}`,
      })
    }
    const node = await stop(change, found, 'the node was disabled')
    const state = advance(nodeTransitions, node.state, 'disable', `node "${name}"`)
    return move(change, node, state, async () => {
      await change.note('node-disabled', name, { before: found.state })
      // Nobody knows when it is enabled again, and others wait. One that waits itself is looked at when its turn comes.
      const cause = 'it was disabled; its mark stays'
      await leaveCampaigns(change, [node], { state: 'cancelled', cause }, ['active'])
    })
  })
}

/**
 * Enables a disabled node: it is `registered` again, its reinstall mark as it was. Of a node that loops it says that somebody
 * has looked at it: it is held back no more, and its boots count anew.
 */
export function enableNode(context: BootContext, by: By, name: string): Promise<NodeView> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    if (node.state !== 'disabled' && node.looping_since !== null) {
      const { state, looping_since: loopingSince } = node
      return move(change, node, state, () =>
        change.note('node-enabled', name, { before: state, loopingSince }),
      )
    }
    if (node.state !== 'disabled') {
      throw new PawlError('conflict', `node "${name}" is ${node.state}, not disabled`, {
        hint: 'there is nothing to enable',
      })
    }
    return move(change, node, advance(nodeTransitions, node.state, 'enable', `node "${name}"`), () =>
      change.note('node-enabled', name, {}),
    )
  })
}

/** Allows one boot of a ready node whose profile wants each boot armed. Arming twice is arming once. */
export function armNode(context: BootContext, by: By, name: string): Promise<NodeView> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const hint = armHints[node.state]
    if (hint !== undefined) {
      throw new PawlError('conflict', `node "${name}" is ${node.state}`, { hint: `${hint} ${name}` })
    }
    if (node.armed === 0 || node.looping_since !== null) {
      await updateNode(change.tx, node.id, {
        armed: 1,
        ...countAnew(change.now),
        updated_at: change.now.toISOString(),
      })
      await change.note('node-armed', name, { state: node.state })
    }
    return showNode(change.tx, name)
  })
}

/** The states in which arming opens nothing, with what does. */
const armHints: Readonly<Partial<Record<NodeState, string>>> = {
  disabled: 'enable it first with pawl node enable',
  held: 'mark it again with pawl node reinstall, which releases and arms it:',
}

/** Finds a node and keeps it from changing; throws `not-found`, and `precondition-failed` where it changed before. */
export async function lock(change: Change, name: string): Promise<NodeRecord> {
  const { tx, context } = change
  const node = await lockNode(tx, context.storage.dialect, name)
  if (node === undefined) throw noSuchNode(name)
  await requireRevision(change, { kind: 'node', name }, node.revision)
  return node
}

/** Ends what the node has under way, and spends every token it was given. */
async function stop(change: Change, node: NodeRecord, cause: string): Promise<NodeRecord> {
  const live = await findLiveSession(change.tx, node.id)
  // A machine that is ready may still be reading.
  const ready = live === undefined ? await findNewestSession(change.tx, node.id) : undefined
  if (ready !== undefined) change.afterCommit(() => change.context.transfers.cut(ready.id))
  const { actor, source } = change.by
  const stopped =
    live === undefined
      ? node
      : await endSession(change, node, live, { how: 'fail', cause, actor, source, silence: true })
  await retireTokensOf(change.tx, node.id, change.now)
  await removeClaim(change.tx, node.id)
  return stopped
}

async function move(
  change: Change,
  node: NodeRecord,
  state: NodeState,
  note: () => Promise<void>,
): Promise<NodeView> {
  await updateNode(change.tx, node.id, {
    state,
    ...(state === node.state ? {} : { failure_cause: null }),
    ...countAnew(change.now),
    updated_at: change.now.toISOString(),
  })
  await note()
  return showNode(change.tx, node.name)
}
