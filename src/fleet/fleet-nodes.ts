import { canonicalJson } from '../domain/canonical-json.ts'
import { parseNodeName } from '../domain/node.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import { checkTogether } from './fleet-node-checks.ts'
import {
  attempt,
  emptyPlan,
  type FieldChange,
  type FleetNode,
  type FleetRequest,
  heldElsewhere,
  type KindPlan,
  lastOf,
  plainChange,
  type Records,
  remember,
} from './fleet-plan.ts'
import {
  type NodeChanges,
  type NodeSettings,
  noSettings,
  settingsOf,
  shown,
  withChanges,
} from './node-settings.ts'
import { writeAddress } from './node-view.ts'

/** Nodes as they are and as they will be. */
export interface NodePlan extends KindPlan {
  readonly adds: { readonly name: string; readonly settings: NodeSettings }[]
  readonly updates: {
    readonly row: NodeRecord
    readonly before: NodeSettings
    readonly after: NodeSettings
  }[]
}

/** What nodes are planned from. */
export interface NodeGround {
  readonly request: FleetRequest
  readonly records: Records
  /** Every node there is. */
  readonly existing: readonly NodeRecord[]
  /** Names of nodes that the plan removes. */
  readonly leaving: ReadonlySet<string>
  /** The profiles that there will be, and whether their nodes are proved by an address alone. */
  readonly profiles: ReadonlyMap<string, boolean>
}

const fields = [
  'addresses',
  'macs',
  'uuid',
  'serial',
  'profile',
  'labels',
] as const satisfies (keyof NodeSettings)[]

/** Plans what the files say of nodes. Nothing is read or written here. */
export function planNodes(ground: NodeGround): NodePlan {
  const plan: NodePlan = { ...emptyPlan(), adds: [], updates: [] }
  const byName = new Map(ground.existing.map((node) => [node.name, node]))
  const will = new Map<string, NodeSettings>()
  for (const node of ground.existing)
    if (!ground.leaving.has(node.name)) will.set(node.name, settingsOf(node))
  for (const written of ground.request.nodes) {
    const after = planNode(plan, ground, written, byName.get(written.name))
    if (after !== undefined) will.set(written.name, after)
  }
  checkTogether(plan, ground, will)
  return plan
}

/** Plans one node; returns the settings that it will have. */
function planNode(
  plan: NodePlan,
  ground: NodeGround,
  written: FleetNode,
  row: NodeRecord | undefined,
): NodeSettings | undefined {
  const { request, records } = ground
  const { name, ...named } = written
  const about = { kind: 'node', name } as const
  if (attempt(plan, about, () => parseNodeName(name)) === undefined) return undefined
  const elsewhere = heldElsewhere(records, request, 'node', name)
  if (elsewhere !== undefined) {
    plan.faults.push(elsewhere)
    return undefined
  }
  const last = lastOf(records, request.set, 'node', name) as NodeChanges
  const before = row === undefined ? noSettings : settingsOf(row)
  const asked = withCleared(named, last)
  let after = before
  const faults = plan.faults.length
  for (const field of fields) {
    if (asked[field] === undefined) continue
    const changed = attempt(plan, { ...about, field }, () => withChanges(after, { [field]: asked[field] }))
    after = changed ?? after
  }
  if (plan.faults.length > faults) return undefined
  const document = canonicalJson(pickNamed(named, after))
  remember(plan, records, { kind: 'node', name, set_name: request.set, document })
  if (row === undefined) {
    plan.adds.push({ name, settings: after })
    plan.changes.push({ ...about, action: 'add', fields: changesOf(before, after, {}, false), notes: [] })
    return after
  }
  const changes = sameSettings(before, after) ? [] : changesOf(before, after, last, true)
  if (changes.length === 0) plan.unchanged += 1
  else {
    plan.updates.push({ row, before, after })
    plan.changes.push({ ...about, action: 'change', fields: changes, notes: [] })
  }
  return after
}

/** Whether nothing differs: most nodes of most applies, so it is told without writing them out. */
function sameSettings(a: NodeSettings, b: NodeSettings): boolean {
  const [labels, others] = [Object.entries(a.labels), b.labels]
  return (
    a.profile === b.profile &&
    a.uuid === b.uuid &&
    a.serial === b.serial &&
    sameList(a.macs, b.macs) &&
    sameList(a.addresses.map(writeAddress), b.addresses.map(writeAddress)) &&
    labels.length === Object.keys(others).length &&
    labels.every(([key, value]) => others[key] === value)
  )
}

/** Both are in one order when they are read or parsed, but not in the same one. */
function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one) => b.includes(one))
}

/** The changes to ask for: what the files name, and null or nothing for what they named when they were last applied. */
function withCleared(named: NodeChanges, last: NodeChanges): NodeChanges {
  const { labels: lastLabels = {}, ...lastFields } = last
  const cleared = Object.fromEntries(
    Object.keys(lastFields)
      .filter((field) => !(field in named))
      .map((field) => [field, field === 'addresses' || field === 'macs' ? [] : null]),
  )
  const gone = Object.keys(lastLabels).filter((key) => named.labels?.[key] === undefined)
  const labels = { ...Object.fromEntries(gone.map((key) => [key, null])), ...named.labels }
  return { ...cleared, ...named, ...(Object.keys(labels).length === 0 ? {} : { labels }) }
}

/** The fields that the files name, as they are spelled when they are stored: what the next apply compares with. */
function pickNamed(named: NodeChanges, after: NodeSettings): Record<string, unknown> {
  const all = shown(after)
  const picked = Object.keys(named).map((field) => [field, all[field]])
  const labels = Object.fromEntries(
    Object.keys(named.labels ?? {})
      .filter((key) => named.labels?.[key] !== null)
      .map((key) => [key, after.labels[key]]),
  )
  return { ...Object.fromEntries(picked), ...(named.labels === undefined ? {} : { labels }) }
}

/** What differs, field by field and label by label; `last` tells what is not as the files left it. */
function changesOf(
  before: NodeSettings,
  after: NodeSettings,
  last: NodeChanges,
  there: boolean,
): FieldChange[] {
  const [old, now] = [flat(before), flat(after)]
  const left = flatRecord(last as Record<string, unknown>)
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((field) => canonicalJson(old.get(field) ?? null) !== canonicalJson(now.get(field) ?? null))
    .filter((field) => there || !isEmpty(now.get(field)))
    .map((field) => {
      const drifted =
        left.has(field) && canonicalJson(left.get(field) ?? null) !== canonicalJson(old.get(field) ?? null)
      return { ...plainChange(field, old.get(field), now.get(field)), drifted }
    })
}

function isEmpty(value: unknown): boolean {
  return value == null || (Array.isArray(value) && value.length === 0)
}

function flat(settings: NodeSettings): Map<string, unknown> {
  return flatRecord(shown(settings))
}

/** Labels as fields of their own: `labels.site`. */
function flatRecord({ labels = {}, ...rest }: Readonly<Record<string, unknown>>): Map<string, unknown> {
  const entries = Object.entries(labels as Record<string, unknown>).sort(([a], [b]) => (a < b ? -1 : 1))
  return new Map([...Object.entries(rest), ...entries.map(([k, v]) => [`labels.${k}`, v] as const)])
}
