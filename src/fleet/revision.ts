import type { EventKind } from '../domain/event.ts'
import { PawlError } from '../errors.ts'
import type { Queries, Tx } from '../storage/database.ts'
import { countNodeRevisions, listLastEvents } from '../storage/revisions.ts'
import type { EventRow } from '../storage/tables.ts'

/**
 * What operators set has a revision: an integer that each change by an operator counts up, and what boots change does not.
 * Whoever changes a thing may say on which revision; if another came first, nothing is changed, and the answer tells who
 * changed what.
 */

/** What a change may depend on. */
export type Precondition =
  /** The thing is at one of these revisions; `any`: it exists. */
  | { readonly at: readonly number[] | 'any' }
  /** It does not exist yet. */
  | { readonly absent: true }

/** What has revisions. Channels by `name/channel`, operator tokens by their id. */
export interface Revised {
  readonly kind: 'node' | 'profile' | 'channel' | 'publisher' | 'operator token' | 'webhook' | 'extension'
  readonly name: string
}

/** The events that a node's revisions are: each counts one up. */
const nodeRevisions = [
  'node-changed',
  'node-disabled',
  'node-enabled',
  'node-armed',
  'secret-issued',
  'secret-revoked',
  'node-certificate-issued',
  'node-certificate-revoked',
  'reinstall-marked',
  'reinstall-cancelled',
] as const satisfies EventKind[]

/** What events tell of the changes of a thing, and which field of their detail names it. */
const records: Readonly<Record<Revised['kind'], { kinds: readonly EventKind[]; field?: string }>> = {
  node: { kinds: nodeRevisions },
  profile: { kinds: ['profile-applied'], field: 'profile' },
  channel: { kinds: ['channel-moved', 'channel-protected', 'rollout-completed'], field: 'channel' },
  publisher: { kinds: ['publisher-revoked'], field: 'publisher' },
  'operator token': { kinds: ['operator-revoked'], field: 'id' },
  webhook: {
    kinds: ['webhook-changed', 'webhook-enabled', 'webhook-disabled', 'webhook-secret-rotated'],
    field: 'webhook',
  },
  extension: { kinds: ['extension-applied'], field: 'operation' },
}

/** Counts a node's revision up for each event that is a change by an operator. */
export async function countRevisions(
  tx: Tx,
  events: readonly { readonly kind: EventKind; readonly node: string | null }[],
): Promise<void> {
  const counts = new Map<string, number>()
  for (const { kind, node } of events) {
    if (node !== null && (nodeRevisions as readonly EventKind[]).includes(kind))
      counts.set(node, (counts.get(node) ?? 0) + 1)
  }
  for (const [more, nodes] of Map.groupBy(counts, ([, count]) => count))
    await countNodeRevisions(
      tx,
      nodes.map(([name]) => name),
      more,
    )
}

const checked = new WeakSet<Precondition>()

/** Whether a precondition was looked at: one that nobody looked at must not let its change pass. */
export function wasChecked(precondition: Precondition): boolean {
  return checked.has(precondition)
}

/**
 * Checks what a change depends on, where it depends on something. `current` was read under the row's lock, or is
 * undefined where there is no such thing. Throws `precondition-failed`, which tells who changed what since.
 */
export async function requireRevision(
  { tx, by }: { readonly tx: Queries; readonly by: { readonly precondition?: Precondition | undefined } },
  thing: Revised,
  current: number | undefined,
): Promise<void> {
  const { precondition } = by
  if (precondition === undefined) return
  checked.add(precondition)
  const who = `${thing.kind} "${thing.name}"`
  if ('absent' in precondition) {
    if (current === undefined) return
    throw failed(`${who} exists, at revision ${current}`, 'look at it, and change it with If-Match')
  }
  if (current === undefined) throw failed(`${who} does not exist`, 'make it without If-Match')
  if (precondition.at === 'any' || precondition.at.includes(current)) return
  const hint = 'look at it as it is now, and decide again'
  const now = `${who} is at revision ${current}`
  if (precondition.at.length === 0) throw failed(`${now}; the tag given is none of its own`, hint)
  const changes = await changesSince(tx, thing, current - Math.max(...precondition.at))
  throw failed(`${now}, not ${precondition.at.join(' or ')}${changes === '' ? '' : `: ${changes}`}`, hint)
}

function failed(message: string, hint: string): PawlError {
  return new PawlError('precondition-failed', message, { hint })
}

const maxTold = 5

async function changesSince(db: Queries, thing: Revised, revisions: number): Promise<string> {
  if (revisions <= 0) return ''
  const { kinds, field } = records[thing.kind]
  const about = field === undefined ? { node: thing.name } : { field, value: thing.name }
  const rows = await listLastEvents(db, { kinds, ...about, limit: Math.min(revisions, maxTold) })
  const untold = rows.length === maxTold && revisions > maxTold ? `after ${revisions - maxTold} others, ` : ''
  return untold + rows.map(tell).join('; ')
}

/** One change as a person reads it: `operator:ann changed profile "a" to "b" at 2026-11-21T12:00:00.000Z`. */
function tell(row: EventRow): string {
  const detail = JSON.parse(row.detail) as Readonly<Record<string, unknown>> // our own column
  const fields = changedFields(detail)
  return `${row.actor} at ${row.at}: ${row.kind}${fields === '' ? '' : ` (${fields})`}`
}

const maxShown = 100

/** The fields that differ between before and after. Events hold no secret, so neither does this. */
function changedFields({
  before,
  after,
  version,
  secretsChanged,
}: Readonly<Record<string, unknown>>): string {
  if (typeof version === 'string') return `version ${shown(before)} -> ${shown(version)}`
  const [from, to] = [fieldsOf(before), fieldsOf(after)]
  const changed = [...new Set([...Object.keys(from), ...Object.keys(to)])]
    .filter((name) => JSON.stringify(from[name]) !== JSON.stringify(to[name]))
    .map((name) => `${name} ${shown(from[name])} -> ${shown(to[name])}`)
  const secrets = Array.isArray(secretsChanged) ? secretsChanged.map((name) => `${name} changed`) : []
  return [...changed, ...secrets].join(', ')
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length <= maxShown ? text : `${text.slice(0, maxShown)}…`
}
