import { listProfiles } from '../storage/fleet.ts'
import type { FleetKind } from '../storage/fleet-file-tables.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import type { Change } from './change.ts'
import { removeChannelIn } from './fleet-channels.ts'
import { removeExtensionOf } from './fleet-extensions.ts'
import type { NodePlan } from './fleet-nodes.ts'
import {
  emptyPlan,
  type FleetRequest,
  faulted,
  type KindPlan,
  plainChange,
  type Records,
} from './fleet-plan.ts'
import { removeProfileIn, sourcesInUse } from './fleet-profiles.ts'
import { settingsOf, shown } from './node-settings.ts'

/** What the set holds and the files do not name. */
export type Gone = Readonly<Record<FleetKind, readonly string[]>>

/** What the set holds and the files name no more. */
export function goneFrom(request: FleetRequest, records: Records): Gone {
  const { extensions } = request
  const named: Record<FleetKind, ReadonlySet<string> | undefined> = {
    node: new Set(request.nodes.map(({ name }) => name)),
    profile: new Set(request.profiles.map(({ name }) => name)),
    channel: new Set(request.channels.map(({ channel }) => channel)),
    extension: extensions && new Set(extensions.map(({ operation }) => operation)),
  }
  const gone = [...records.values()]
    .filter(({ kind, name, set_name }) => set_name === request.set && named[kind]?.has(name) === false)
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  const of = (kind: FleetKind): string[] => gone.filter((row) => row.kind === kind).map(({ name }) => name)
  return { node: of('node'), profile: of('profile'), channel: of('channel'), extension: of('extension') }
}

/** Plans the removal of nodes; `live` are those that boot now. */
export function noteRemovedNodes(
  plan: KindPlan,
  leaving: readonly NodeRecord[],
  live: ReadonlySet<string>,
): void {
  for (const node of leaving) {
    const fields = Object.entries(shown(settingsOf(node)))
      .filter(([, value]) => value !== null && Object.keys(Object(value)).length > 0)
      .map(([field, before]) => plainChange(field, before, null))
    const notes = [
      ...(live.has(node.id) ? ['it boots now: its session is ended, its downloads are cut'] : []),
      ...(node.reinstall === 'none' ? [] : [`its reinstall mark (${node.reinstall}) goes with it`]),
    ]
    plan.changes.push({ kind: 'node', name: node.name, action: 'remove', fields, notes })
    const session = live.has(node.id) ? 'boots' : 'quiet'
    plan.based.push(
      `node ${node.name} ${node.id} ${node.revision} ${node.state} ${node.reinstall} ${session}`,
    )
  }
}

/**
 * Profiles, channels and extensions that go, checked against the nodes and profiles that stay. Removing is tried in the transaction
 * only when it is done for good: what still uses them now may be about to go itself.
 */
export async function planLastRemovals(
  change: Change,
  request: FleetRequest,
  gone: Gone,
  nodes: NodePlan,
  leaving: readonly NodeRecord[],
): Promise<KindPlan> {
  const plan = emptyPlan()
  if (request.prune !== true) return plan
  const existing = new Map((await listProfiles(change.tx)).map((row) => [row.name, row]))
  const going = new Set(gone.profile.filter((name) => existing.has(name)))
  const users = await usersOf(change, nodes, leaving)
  for (const name of going) {
    const user = users.get(name)
    plan.changes.push({ kind: 'profile', name, action: 'remove', fields: [], notes: [] })
    const row = existing.get(name)
    plan.based.push(`profile ${name} ${row?.revision} ${row?.created_at}`)
    if (user === undefined) continue
    plan.faults.push({
      ...{ kind: 'profile', name, field: null, code: 'conflict' },
      message: `profile "${name}" is gone from the files, and node "${user}" that stays has it`,
      hint: 'give its nodes another profile, or keep the profile',
    })
  }
  const inUse = await sourcesInUse(change, going)
  for (const name of gone.channel) {
    const removed = await faulted(plan, { kind: 'channel', name }, () => removeChannelIn(change, name, inUse))
    if (removed === undefined) continue
    plan.changes.push({ kind: 'channel', name, action: 'remove', fields: [], notes: [] })
    plan.based.push(`channel ${name} ${removed.revision} ${removed.updated_at}`)
  }
  for (const name of gone.extension) {
    const removed = await faulted(plan, { kind: 'extension', name }, () =>
      removeExtensionOf(change, name, going),
    )
    if (removed === undefined) continue
    plan.changes.push({ kind: 'extension', name, action: 'remove', fields: [], notes: [] })
    plan.based.push(`extension ${name} ${removed.revision} ${removed.updated_at}`)
  }
  return plan
}

/** A node of each profile, as they will be. */
async function usersOf(
  change: Change,
  { adds, updates }: NodePlan,
  leaving: readonly NodeRecord[],
): Promise<ReadonlyMap<string, string>> {
  const users = new Map<string, string>()
  const skip = new Set([...leaving.map(({ name }) => name), ...updates.map(({ row }) => row.name)])
  for (const { name, profile } of await change.tx.selectFrom('nodes').select(['name', 'profile']).execute())
    if (profile !== null && !skip.has(name)) users.set(profile, name)
  for (const { row, after } of updates) if (after.profile !== null) users.set(after.profile, row.name)
  for (const { name, settings } of adds) if (settings.profile !== null) users.set(settings.profile, name)
  return users
}

/** Profiles last: nodes that go or change have let go of theirs by then. Channels and extensions went when they were planned. */
export async function removeRest(change: Change, gone: Gone, { prune }: FleetRequest): Promise<void> {
  if (prune !== true) return
  for (const name of gone.profile) await removeProfileIn(change, name)
}

/** How many things the files name no more are still there. */
export async function countLeft(
  { tx }: Change,
  gone: Gone,
  existing: readonly NodeRecord[],
): Promise<number> {
  const nodes = new Set(existing.map(({ name }) => name))
  const profiles = new Set((await listProfiles(tx)).map(({ name }) => name))
  return (
    gone.node.filter((name) => nodes.has(name)).length +
    gone.profile.filter((name) => profiles.has(name)).length +
    gone.channel.length +
    gone.extension.length
  )
}
