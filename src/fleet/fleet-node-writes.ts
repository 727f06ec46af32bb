import { leaveCampaigns } from '../boot/campaign.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import type { EventFacts } from '../domain/event.ts'
import { appendEvents } from '../storage/event-batch.ts'
import { deleteNodes, insertNodes, replaceLists, updateNodes } from '../storage/node-batch.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import type { NodeRow } from '../storage/tables.ts'
import { attributed, type Change } from './change.ts'
import type { NodePlan } from './fleet-nodes.ts'
import { difference, type NodeSettings, settingsOf, shown } from './node-settings.ts'
import { freshNode, nodeRemoved, removeNodeIn } from './nodes.ts'

/** Writes what was planned of nodes: a few statements for all of them, and an event for each as if it were changed alone. */
export async function writeNodes(change: Change, { adds, updates }: NodePlan): Promise<void> {
  const { tx, context, by, now } = change
  const fact = (kind: EventFacts['kind'], node: string, detail: EventFacts['detail']): EventFacts => ({
    kind,
    node,
    at: now,
    session: null,
    ...attributed(by, detail),
  })
  const added: { row: NodeRow; settings: NodeSettings }[] = adds.map(({ name, settings }) => ({
    row: freshNode(change, name, settings, 'registered'),
    settings,
  }))
  await updateNodes(
    tx,
    updates.map(({ row, after }) => ({
      row,
      columns: {
        ...{ id: row.id, profile: after.profile, uuid: after.uuid, serial: after.serial },
        ...{ labels: canonicalJson(after.labels), updated_at: now.toISOString() },
      },
    })),
  )
  await insertNodes(
    tx,
    added.map(({ row }) => row),
  )
  await replaceLists(tx, [
    ...updates.map(({ row, after }) => ({ id: row.id, addresses: after.addresses, macs: after.macs })),
    ...added.map(({ row, settings }) => ({ id: row.id, addresses: settings.addresses, macs: settings.macs })),
  ])
  await appendEvents(tx, context.storage.dialect, [
    ...updates.map(({ row, before, after }) =>
      fact('node-changed', row.name, difference(before, after) ?? {}),
    ),
    ...added.map(({ row, settings }) => fact('node-added', row.name, shown(settings))),
  ])
}

/**
 * Removes nodes. One that boots is removed as it is alone: its session is ended, its downloads are cut. Of the others
 * there is nothing to end, so they go in a few statements; their sessions and tokens go with their rows.
 */
export async function removeNodes(
  change: Change,
  nodes: readonly NodeRecord[],
  live: ReadonlySet<string>,
): Promise<void> {
  const { tx, context, by, now } = change
  await leaveCampaigns(change, nodes, nodeRemoved)
  for (const node of nodes) if (live.has(node.id)) await removeNodeIn(change, node.name)
  const quiet = nodes.filter(({ id }) => !live.has(id))
  await deleteNodes(
    tx,
    quiet.map(({ id }) => id),
  )
  await appendEvents(
    tx,
    context.storage.dialect,
    quiet.map((node) => ({
      ...{
        kind: 'node-removed',
        node: node.name,
        at: now,
        session: null,
      },
      ...attributed(by, { ...shown(settingsOf(node)), state: node.state }),
    })),
  )
}
