import { isSingle } from '../domain/address.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import type { EventFacts } from '../domain/event.ts'
import { parseNodeName } from '../domain/node.ts'
import { appendEvents } from '../storage/event-batch.ts'
import { insertNodes, replaceLists, updateNodes } from '../storage/node-batch.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { Change } from './change.ts'
import {
  emptyPlan,
  type FieldChange,
  type FleetNode,
  type FleetRequest,
  faulted,
  heldElsewhere,
  type KindPlan,
  lastOf,
  plainChange,
  type Records,
  remember,
} from './fleet-plan.ts'
import {
  difference,
  type NodeChanges,
  type NodeSettings,
  noSettings,
  settingsOf,
  shown,
  withChanges,
} from './node-settings.ts'
import { freshNode } from './nodes.ts'

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
  /** The profiles that there will be. */
  readonly profiles: ReadonlySet<string>
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
export async function planNodes(ground: NodeGround): Promise<NodePlan> {
  const plan: NodePlan = { ...emptyPlan(), adds: [], updates: [] }
  const byName = new Map(ground.existing.map((node) => [node.name, node]))
  const will = new Map<string, NodeSettings>()
  for (const node of ground.existing)
    if (!ground.leaving.has(node.name)) will.set(node.name, settingsOf(node))
  for (const written of ground.request.nodes) {
    const after = await planNode(plan, ground, written, byName.get(written.name))
    if (after !== undefined) will.set(written.name, after)
  }
  checkTogether(plan, ground, will)
  return plan
}

/** Plans one node; returns the settings that it will have. */
async function planNode(
  plan: NodePlan,
  ground: NodeGround,
  written: FleetNode,
  row: NodeRecord | undefined,
): Promise<NodeSettings | undefined> {
  const { request, records } = ground
  const { name, ...named } = written
  const about = { kind: 'node', name } as const
  if ((await faulted(plan, about, () => parseNodeName(name))) === undefined) return undefined
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
    const changed = await faulted(plan, { ...about, field }, () =>
      withChanges(after, { [field]: asked[field] }),
    )
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
  const changes = changesOf(before, after, last, true)
  if (changes.length === 0) plan.unchanged += 1
  else {
    plan.updates.push({ row, before, after })
    plan.changes.push({ ...about, action: 'change', fields: changes, notes: [] })
  }
  return after
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

/** What no node can be told by itself: profiles that are not there, what two nodes cannot share, what they had better not. */
function checkTogether(
  plan: NodePlan,
  { profiles }: NodeGround,
  will: ReadonlyMap<string, NodeSettings>,
): void {
  const macs = new Map<string, string>()
  const uuids = new Map<string, string>()
  const holders = new Map<string, string[]>()
  const serials = new Map<string, string[]>()
  for (const [name, { macs: own, uuid, serial, addresses }] of will) {
    for (const mac of own) if (!isChanged(plan, name)) macs.set(mac, name)
    if (uuid !== null && !isChanged(plan, name)) uuids.set(uuid, name)
    for (const range of addresses) if (isSingle(range)) push(holders, range.address, name)
    if (serial !== null) push(serials, serial, name)
  }
  for (const { name, action } of plan.changes) {
    const settings = will.get(name)
    if (settings === undefined) continue
    const { profile, macs: own, uuid, serial, addresses } = settings
    const fault = (field: string, code: 'not-found' | 'exists', message: string, hint: string): void => {
      plan.faults.push({ kind: 'node', name, field, code, message, hint })
    }
    if (profile !== null && !profiles.has(profile)) {
      const hint = `there are: ${[...profiles].sort().slice(0, 20).join(', ')}${profiles.size > 20 ? ', …' : ''}`
      fault(
        'profile',
        'not-found',
        `profile "${profile}" does not exist`,
        profiles.size === 0 ? 'there are none yet' : hint,
      )
    }
    for (const mac of own) {
      const other = macs.get(mac)
      if (other !== undefined && other !== name)
        fault('macs', 'exists', `MAC address ${mac} belongs to node "${other}"`, 'take it from there first')
      else macs.set(mac, name)
    }
    if (uuid !== null) {
      const other = uuids.get(uuid)
      if (other !== undefined && other !== name)
        fault('uuid', 'exists', `UUID ${uuid} belongs to node "${other}"`, 'take it from there first')
      else uuids.set(uuid, name)
    }
    if (action === 'remove') continue
    warnShared(
      plan,
      name,
      addresses.map(({ address }) => address),
      holders,
      serial,
      serials,
    )
  }
}

function warnShared(
  plan: NodePlan,
  name: string,
  addresses: readonly string[],
  holders: ReadonlyMap<string, readonly string[]>,
  serial: string | null,
  serials: ReadonlyMap<string, readonly string[]>,
): void {
  const warn = (message: string): void => {
    plan.warnings.push({ kind: 'node', name, message })
  }
  for (const address of addresses) {
    const other = holders.get(address)?.find((holder) => holder !== name)
    if (other !== undefined) warn(`node "${other}" has address ${address} too: it proves nothing alone`)
  }
  const same = serial === null ? undefined : serials.get(serial)?.find((holder) => holder !== name)
  if (same !== undefined)
    warn(`node "${same}" has serial number ${serial} too: facts with it alone select no node`)
}

const changedNames = new WeakMap<NodePlan, Set<string>>()

function isChanged(plan: NodePlan, name: string): boolean {
  const names = changedNames.get(plan) ?? new Set(plan.changes.map((one) => one.name))
  changedNames.set(plan, names)
  return names.has(name)
}

function push(map: Map<string, string[]>, key: string, name: string): void {
  const names = map.get(key)
  if (names === undefined) map.set(key, [name])
  else names.push(name)
}

/** Writes what was planned of nodes: a few statements for all of them, and an event for each as if it were changed alone. */
export async function writeNodes(change: Change, { adds, updates }: NodePlan): Promise<void> {
  const { tx, context, by, now } = change
  const fact = (kind: EventFacts['kind'], node: string, detail: EventFacts['detail']): EventFacts => ({
    kind,
    node,
    detail,
    at: now,
    session: null,
    actor: by.actor,
    source: by.source,
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
