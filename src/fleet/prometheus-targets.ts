import { isIPv6 } from 'node:net'
import type { BootContext } from '../boot/context.ts'
import { readPinned } from '../boot/pin.ts'
import { type NodeState, nodeTransitions } from '../domain/state.ts'
import { addressesOf, pageOfTargets, type TargetRow } from '../storage/metrics.ts'

/** A target group of Prometheus' HTTP service discovery: one a node. */
export interface PrometheusTargets {
  readonly targets: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

/** Which nodes are targets, and on which port. */
export interface TargetsAsked {
  readonly port: number
  readonly state: NodeState | 'any'
}

const pageSize = 500

/**
 * All nodes in a state as Prometheus' HTTP service discovery wants them: every answer is the whole list. A node that has no address,
 * neither a registered one nor a session it came with, is no target. Between two pages others have their turn.
 */
export async function listPrometheusTargets(
  context: BootContext,
  { port, state }: TargetsAsked,
): Promise<PrometheusTargets[]> {
  const { db } = context.storage
  const states = state === 'any' ? (Object.keys(nodeTransitions) as NodeState[]) : [state]
  const groups: PrometheusTargets[] = []
  for (let after = '', more = true; more; ) {
    const page = await pageOfTargets(db, states, { after, limit: pageSize })
    const ids = page.map(({ id }) => id)
    const registered = await addressesOf(db, ids)
    for (const row of page) groups.push(...groupOf(row, registered.get(row.id) ?? [], port))
    after = page.at(-1)?.name ?? ''
    more = page.length === pageSize
    await new Promise((resolve) => setImmediate(resolve))
  }
  return groups
}

function groupOf(row: TargetRow, registered: readonly string[], port: number): PrometheusTargets[] {
  const address = row.source !== null && registered.includes(row.source) ? row.source : registered[0]
  const used = address ?? row.source
  if (used === null) return []
  const labels = {
    __meta_pawl_node: row.name,
    __meta_pawl_state: row.state,
    __meta_pawl_profile: row.profile ?? '',
    __meta_pawl_address: used,
    __meta_pawl_address_source: address === undefined ? 'session' : 'registered',
    ...imageLabels(row),
    ...nodeLabels(row.labels),
  }
  return [{ targets: [`${isIPv6(used) ? `[${used}]` : used}:${port}`], labels }]
}

/** What the node's latest session gave it; empty where that was its own disk, or nothing yet. */
function imageLabels({ pinned }: TargetRow): Record<string, string> {
  const { images, chain } = pinned === null ? {} : readPinned(pinned)
  const [name = '', version = ''] = images?.stage3.ref.split('@') ?? []
  return {
    __meta_pawl_image: name,
    __meta_pawl_image_version: images === undefined ? (chain?.imagesVersion ?? '') : version,
    __meta_pawl_channel: images?.stage3.via?.channel ?? '',
  }
}

/** The node's own labels, under names that Prometheus takes; of two that become one name, the first by the alphabet stands. */
function nodeLabels(text: string): Record<string, string> {
  const own = JSON.parse(text) as Record<string, string> // our own row, checked by parseLabels
  const labels: Record<string, string> = { __meta_pawl_site: own.site ?? '' }
  for (const key of Object.keys(own).sort()) {
    const name = key.replace(/[^a-zA-Z0-9_]/g, '_')
    labels[`__meta_pawl_label_${name}`] ??= own[key] ?? ''
    labels[`__meta_pawl_labelpresent_${name}`] = 'true'
  }
  return labels
}
