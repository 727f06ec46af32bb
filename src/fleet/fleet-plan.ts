import { createHash } from 'node:crypto'
import { canonicalJson } from '../domain/canonical-json.ts'
import { type ErrorCode, isPawlError } from '../errors.ts'
import type { FleetKind, FleetObjectRow } from '../storage/fleet-file-tables.ts'
import type { ExtensionSettings } from './extension-settings.ts'
import type { NodeChanges } from './node-settings.ts'

/**
 * Fleet files say what nodes, profiles, channels and extensions should be. What an apply does is planned from three things: what the
 * files say now, what they said when they were last applied (kept per thing), and what is there. A field that the files
 * name gets the file's value; one that they named and name no more is cleared; one that they never named is left alone.
 */

/** A node as files describe it. */
export interface FleetNode extends NodeChanges {
  readonly name: string
}

/** A channel as files describe it. */
export interface FleetChannel {
  /** `name/channel`. */
  readonly channel: string
  readonly version?: string
  readonly twoPerson?: boolean
  readonly requireTest?: boolean
}

/** An extension as files describe it. */
export interface FleetExtension extends ExtensionSettings {
  readonly operation: string
}

/** What files say, and how they are to be applied. */
export interface FleetRequest {
  readonly set: string
  readonly nodes: readonly FleetNode[]
  readonly profiles: readonly ({ readonly name: string } & Readonly<Record<string, unknown>>)[]
  readonly channels: readonly FleetChannel[]
  /** Left out, the files do not speak of extensions, as those of clients that know none: what the set holds of them stays. */
  readonly extensions?: readonly FleetExtension[]
  /** Remove what the set held and the files name no more. */
  readonly prune?: boolean
  /** Take over what is in another set. */
  readonly takeOver?: boolean
  readonly allowMassRemoval?: boolean
  /** The files' digest, for the record. */
  readonly files?: string
  readonly dryRun?: boolean
  /** The plan that was shown; where what would be done is another now, nothing is done. */
  readonly plan?: string
}

/** One field of a thing, before and after. */
export interface FieldChange {
  readonly field: string
  /** Null where it is not set. Of a secret, always null. */
  readonly before: unknown
  readonly after: unknown
  readonly secret: boolean
  /** Who changed it since the files were last applied, where it is not as they left it. */
  readonly changedBy: { readonly actor: string; readonly at: string } | null
  /** It is not as the files left it, whoever did it. */
  readonly drifted: boolean
}

/** One thing that is added, changed or removed. */
export interface PlannedChange {
  readonly kind: FleetKind
  readonly name: string
  readonly action: 'add' | 'change' | 'remove'
  readonly fields: readonly FieldChange[]
  /** What else the operator should know of it. */
  readonly notes: readonly string[]
}

/** Why something cannot be done. */
export interface FleetFault {
  readonly kind: FleetKind
  readonly name: string
  /** Which field, where one is to blame. */
  readonly field: string | null
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string | null
}

/** What is accepted, but will not do what it seems to. */
export interface FleetWarning {
  readonly kind: FleetKind
  readonly name: string
  readonly message: string
}

/** What applying files does, or did. */
export interface FleetPlan {
  readonly set: string
  /** The digest of the plan: send it as `plan` to apply exactly this. */
  readonly plan: string
  readonly applied: boolean
  readonly changes: readonly PlannedChange[]
  /** The first of them: one mistake in a template is a fault of each of thousands of nodes. */
  readonly faults: readonly FleetFault[]
  /** How many there are, those that are not listed included. */
  readonly faultCount: number
  readonly warnings: readonly FleetWarning[]
  readonly counts: {
    readonly added: number
    readonly changed: number
    readonly removed: number
    readonly unchanged: number
    /** Things that come under the care of this set with this apply. */
    readonly adopted: number
    /** Things that the set holds and the files name no more, and that stay for want of `prune`. */
    readonly left: number
  }
  readonly nodes: { readonly before: number; readonly removed: number }
  /** It removes more than a tenth of the nodes, which must be allowed. */
  readonly massRemoval: boolean
}

/** How many faults a plan lists. */
export const maxListedFaults = 100

/** The plan of one kind of things, with what is to be written down about them. */
export interface KindPlan {
  readonly changes: PlannedChange[]
  readonly faults: FleetFault[]
  readonly warnings: FleetWarning[]
  /** What the files say now, of things whose record is other than that. */
  readonly objects: FleetObjectRow[]
  /** The keys of things that were in no set, or in another. */
  readonly newcomers: string[]
  /** What the plan was made from and its fields do not tell: revisions, and of what goes all else that goes with it. */
  readonly based: string[]
  unchanged: number
}

/** A plan with nothing in it. */
export function emptyPlan(): KindPlan {
  return { changes: [], faults: [], warnings: [], objects: [], newcomers: [], based: [], unchanged: 0 }
}

/** What is on record of things by kind and name. */
export type Records = ReadonlyMap<string, FleetObjectRow>

/** The key of a thing in `Records`. */
export function keyOf(kind: FleetKind, name: string): string {
  return `${kind} ${name}`
}

/** The fields that the files last named of a thing of this set. */
export function lastOf(
  records: Records,
  set: string,
  kind: FleetKind,
  name: string,
): Record<string, unknown> {
  const row = records.get(keyOf(kind, name))
  if (row === undefined || row.set_name !== set) return {}
  return JSON.parse(row.document) as Record<string, unknown> // our own column
}

/** Writes down what the files say of a thing, where the record says otherwise. */
export function remember(plan: KindPlan, records: Records, row: FleetObjectRow): void {
  const known = records.get(keyOf(row.kind, row.name))
  if (known?.set_name === row.set_name && known.document === row.document) return
  if (known?.set_name !== row.set_name) plan.newcomers.push(keyOf(row.kind, row.name))
  plan.objects.push(row)
}

/** The fault of a thing that another set holds; undefined where none does, or it may be taken over. */
export function heldElsewhere(
  records: Records,
  { set, takeOver }: Pick<FleetRequest, 'set' | 'takeOver'>,
  kind: FleetKind,
  name: string,
): FleetFault | undefined {
  const row = records.get(keyOf(kind, name))
  if (row === undefined || row.set_name === set || takeOver === true) return undefined
  return {
    ...{ kind, name, field: null, code: 'conflict' },
    message: `${kind} "${name}" belongs to the set "${row.set_name}"`,
    hint: `take it out of those files, and apply these with --take-over`,
  }
}

/** What a check is about. */
export interface About {
  readonly kind: FleetKind
  readonly name: string
  readonly field?: string | null
}

/** Runs a check; what it refuses becomes a fault of the thing. Returns undefined then. */
export async function faulted<T>(
  plan: KindPlan,
  about: About,
  check: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await check()
  } catch (error) {
    return takeFault(plan, about, error)
  }
}

/**
 * Applies what the files say of each thing of one kind, by name, in one order, so that two applies do not wait for each other.
 * What another set holds, and what is refused, is a fault of the thing, and the next one's turn.
 */
export async function applyEach<Written>(
  plan: KindPlan,
  { request, records, kind }: { request: FleetRequest; records: Records; kind: FleetKind },
  written: ReadonlyMap<string, Written>,
  apply: (one: Written, name: string) => Promise<void>,
): Promise<void> {
  for (const [name, one] of [...written].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const elsewhere = heldElsewhere(records, request, kind, name)
    if (elsewhere !== undefined) plan.faults.push(elsewhere)
    else await faulted(plan, { kind, name }, () => apply(one, name))
  }
}

/** The same for a check that waits for nothing. */
export function attempt<T>(plan: KindPlan, about: About, check: () => T): T | undefined {
  try {
    return check()
  } catch (error) {
    return takeFault(plan, about, error)
  }
}

function takeFault(plan: KindPlan, { kind, name, field = null }: About, error: unknown): undefined {
  if (!isPawlError(error) || serverFaults.includes(error.code)) throw error
  const { code, message, hint = null } = error
  plan.faults.push({ kind, name, field, code, message, hint })
}

/** What is wrong with the server, not with the files. */
const serverFaults: readonly ErrorCode[] = ['internal', 'storage-unavailable', 'disk-full', 'overloaded']

/** A change of a field that nobody else has changed. */
export function plainChange(field: string, before: unknown, after: unknown): FieldChange {
  return {
    field,
    before: before ?? null,
    after: after ?? null,
    secret: false,
    changedBy: null,
    drifted: false,
  }
}

/** The digest of what a plan would do: the same for the same files on the same fleet. `based` adds what it was made from. */
export function planDigest(
  request: FleetRequest,
  changes: readonly PlannedChange[],
  based: readonly string[],
): string {
  const done = changes.map(({ kind, name, action, fields }) => ({
    ...{ kind, name, action },
    fields: fields.map(({ field, before, after, secret }) => ({ field, before, after, secret })),
  }))
  const { set, prune = false, takeOver = false, files = null } = request
  const text = canonicalJson({ v: 1, set, prune, takeOver, files, based, done })
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}
