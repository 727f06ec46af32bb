import { canonicalJson } from '../domain/canonical-json.ts'
import { type Profile, parseProfile, sourcesOf, writeProfile } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { allProfiles, deleteProfile, findProfile, listProfiles, readProfile } from '../storage/fleet.ts'
import type { ProfileRow } from '../storage/tables.ts'
import type { Change } from './change.ts'
import {
  applyEach,
  emptyPlan,
  type FieldChange,
  type FleetRequest,
  type KindPlan,
  lastOf,
  plainChange,
  type Records,
  remember,
} from './fleet-plan.ts'
import { masked, secretsIn, withStoredSecrets } from './profile-secrets.ts'
import { applyProfileIn, openSecrets, shownProfile } from './profiles.ts'
import { type AddressHolders, addressHolders } from './shared-addresses.ts'

type Written = FleetRequest['profiles'][number]

/**
 * Plans what the files say of profiles, and makes the changes: a dry run takes the transaction back. So everything that
 * applying one profile checks is checked here, by the same function.
 */
export async function applyProfiles(
  change: Change,
  request: FleetRequest,
  records: Records,
): Promise<KindPlan> {
  const plan = emptyPlan()
  const rows = new Map((await listProfiles(change.tx)).map((row) => [row.name, row]))
  const written = new Map(request.profiles.map((one) => [one.name, one]))
  let found: Promise<AddressHolders> | undefined
  const holders = (db: Queries): Promise<AddressHolders> => {
    found ??= addressHolders(db)
    return found
  }
  await applyEach(plan, { request, records, kind: 'profile' }, written, (one, name) =>
    applyOne(change, plan, { request, records, holders }, one, rows.get(name)),
  )
  return plan
}

/** What all profiles of a request are planned from. */
interface Ground {
  readonly request: FleetRequest
  readonly records: Records
  /** Who shares an address, read once: nodes are written behind the profiles. */
  readonly holders: (db: Queries) => Promise<AddressHolders>
}

async function applyOne(
  change: Change,
  plan: KindPlan,
  { request, records, holders }: Ground,
  written: Written,
  row: ProfileRow | undefined,
): Promise<void> {
  const { context } = change
  const { name } = written
  const last = lastOf(records, request.set, 'profile', name)
  const stored = row === undefined ? undefined : readProfile(row)
  const merged = mergedDocument(written, stored, last)
  const after = parseProfile(withStoredSecrets(merged, stored, context.sealer))
  const before = stored === undefined ? undefined : (openSecrets(context, stored) ?? stored)
  const fields = changesOf(before, after, last)
  const document = canonicalJson(recordOf(written, after))
  remember(plan, records, { kind: 'profile', name, set_name: request.set, document })
  if (row !== undefined && fields.length === 0) {
    plan.unchanged += 1
    return
  }
  plan.based.push(`profile ${name} ${row?.revision ?? 0}`)
  plan.changes.push({
    kind: 'profile',
    name,
    action: row === undefined ? 'add' : 'change',
    fields,
    notes: [],
  })
  const { warnings } = await applyProfileIn(change, name, merged, holders)
  plan.warnings.push(...warnings.map((message) => ({ kind: 'profile' as const, name, message })))
}

/** What is stored, with what the files say now in place, and without what they said before and say no more. */
function mergedDocument(
  written: Written,
  stored: Profile | undefined,
  last: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const kept = stored === undefined ? {} : shownProfile(stored)
  const left = Object.entries(kept).filter(([field]) => field in written || !(field in last))
  return { ...Object.fromEntries(left), ...written }
}

/** The fields that the files name, with every default filled in and secrets masked: what the next apply compares with. */
function recordOf(written: Written, after: Profile): Record<string, unknown> {
  const full = shownProfile(after)
  return Object.fromEntries(Object.keys(written).map((field) => [field, full[field]]))
}

/** What differs, down to single settings. Of secrets only that they do. */
function changesOf(
  before: Profile | undefined,
  after: Profile,
  last: Readonly<Record<string, unknown>>,
): FieldChange[] {
  const old = before === undefined ? new Map<string, unknown>() : flatten(writeProfile(before))
  const now = flatten(writeProfile(after))
  const defaults = before === undefined ? defaultsOf(after) : undefined
  const left = flatten(last)
  const secrets = new Set([before ?? after, after].flatMap((one) => [...secretsIn(one).keys()]))
  old.delete('name')
  now.delete('name')
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((field) => canonicalJson(old.get(field) ?? null) !== canonicalJson(now.get(field) ?? null))
    .filter(
      (field) =>
        defaults === undefined ||
        canonicalJson(defaults.get(field) ?? null) !== canonicalJson(now.get(field) ?? null),
    )
    .map((field) => {
      if (secrets.has(field)) return { ...plainChange(field, null, null), secret: true }
      const drifted =
        left.has(field) && canonicalJson(left.get(field) ?? null) !== canonicalJson(old.get(field) ?? null)
      return { ...plainChange(field, old.get(field), now.get(field)), drifted }
    })
}

/** What a profile that says nothing but its name would be: of a new one, only what it says otherwise is worth showing. */
function defaultsOf({ name, tokens }: Profile): Map<string, unknown> {
  const plain = flatten(writeProfile(parseProfile({ name, boot: 'local' })))
  plain.delete('boot')
  if (tokens !== 'native') plain.delete('tokens')
  return plain
}

/** A document's values by their path; lists are one value. */
function flatten(document: Readonly<Record<string, unknown>>, path = ''): Map<string, unknown> {
  const values = new Map<string, unknown>()
  for (const [key, value] of Object.entries(document)) {
    const field = `${path}${key}`
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [inner, leaf] of flatten(value as Record<string, unknown>, `${field}.`))
        values.set(inner, leaf)
    } else if (value !== undefined) values.set(field, value === masked ? null : value)
  }
  return values
}

/** Removes a profile that nothing needs any more; throws `conflict` naming what does. */
export async function removeProfileIn(change: Change, name: string): Promise<void> {
  const { tx } = change
  const row = await findProfile(tx, name)
  if (row === undefined) return
  const user = await tx
    .selectFrom('nodes')
    .select('name')
    .where('profile', '=', name)
    .orderBy('name')
    .executeTakeFirst()
  if (user !== undefined) {
    throw new PawlError('conflict', `profile "${name}" is that of node "${user.name}", which stays`, {
      hint: 'give its nodes another profile first',
    })
  }
  await change.note('profile-removed', null, {
    profile: name,
    revision: row.revision,
    before: shownProfile(readProfile(row)),
  })
  await deleteProfile(tx, name)
}

/** Every image source that profiles name, with one of them; `without` are about to go. */
export async function sourcesInUse(
  change: Change,
  without: ReadonlySet<string>,
): Promise<Map<string, string>> {
  const used = new Map<string, string>()
  for (const profile of await allProfiles(change.tx)) {
    if (without.has(profile.name)) continue
    for (const source of sourcesOf(profile)) used.set(source, profile.name)
  }
  return used
}
