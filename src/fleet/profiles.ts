import type { BootContext } from '../boot/context.ts'
import { credentialFaults, tryCredential } from '../boot/join-credential.ts'
import { openJoin, renderJoin } from '../boot/join-script.ts'
import { seedVariables } from '../boot/join-seed.ts'
import { ifReadable } from '../boot/settings-sealer.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { parseImageSource } from '../domain/channel.ts'
import { type Manifest, parseManifest } from '../domain/image.ts'
import { credentialOf } from '../domain/join.ts'
import {
  checkCommandLine,
  ipxeCommandLineStart,
  joinKernelArguments,
  reservedArguments,
} from '../domain/kernel-args.ts'
import { type Profile, parseProfile, type SequenceName, sourcesOf, writeProfile } from '../domain/profile.ts'
import { checkArchitecture } from '../domain/profile-architecture.ts'
import { PawlError } from '../errors.ts'
import { findChannel } from '../storage/channels.ts'
import type { Queries } from '../storage/database.ts'
import { listExtensions } from '../storage/extensions.ts'
import {
  findProfile,
  listProfiles as listRows,
  lockProfile,
  putProfile,
  readProfile,
  useImage,
} from '../storage/fleet.ts'
import { type PageRequest, pageOfProfiles } from '../storage/pages.ts'
import { lastRevision } from '../storage/revisions.ts'
import type { ImageRow, ProfileRow } from '../storage/tables.ts'
import { type By, type Change, change, noSuchProfile } from './change.ts'
import { leaveFaults } from './leave-settings.ts'
import { type Listed, listed } from './listed.ts'
import { joinOf, mapSecrets, masked, secretsIn, withStoredSecrets } from './profile-secrets.ts'
import { requireRevision } from './revision.ts'
import {
  type AddressHolders,
  addressHolders,
  sharedAddresses,
  sharedAddressWarning,
} from './shared-addresses.ts'
import { trustWarning } from './trust-warnings.ts'

/** A profile as operators see it: its secret settings are `***`. */
export interface ProfileView {
  readonly name: string
  readonly revision: number
  /** The profile as it may be sent back. */
  readonly profile: Readonly<Record<string, unknown>>
  readonly createdAt: string
  readonly updatedAt: string
}

/** A profile as it was applied. */
export interface AppliedProfile extends ProfileView {
  readonly warnings: readonly string[]
}

const sequences = ['boot', 'reinstall'] as const satisfies SequenceName[]

/**
 * Makes or changes a profile. Everything that could make a boot of it fail is tried now: its joins are rendered, and
 * where its images are published, their command lines measured. The same profile again is no new revision.
 */
export function applyProfile(
  context: BootContext,
  by: By,
  name: string,
  document: unknown,
): Promise<AppliedProfile> {
  return change(context, by, (change) => applyProfileIn(change, name, document))
}

/** The same inside a change. One of many profiles finds who shares an address with them all. */
export async function applyProfileIn(
  change: Change,
  name: string,
  document: unknown,
  holders: (db: Queries) => Promise<AddressHolders> = addressHolders,
): Promise<AppliedProfile> {
  const { context, by } = change
  const row = await lockProfile(change.tx, context.storage.dialect, name)
  await requireRevision(change, { kind: 'profile', name }, row?.revision)
  const stored = row === undefined ? undefined : readProfile(row)
  const profile = parseProfile(withStoredSecrets(document, stored, context.sealer))
  if (profile.name !== name) {
    throw new PawlError('invalid', `the profile is named "${profile.name}", and was sent as "${name}"`)
  }
  checkReserved(by, profile)
  checkClusters(context, profile)
  const sealed = mapSecrets(profile, (value, { place }) => context.sealer.seal(value, place))
  tryJoins(context, sealed)
  const shared = await sharedAddresses(change.tx, [profile], holders)
  const warnings = [
    ...(await checkImages(change, profile)),
    ...(await missingExtensions(change, profile)),
    ...shared.map(sharedAddressWarning),
  ]
  const opened = stored === undefined ? undefined : openSecrets(context, stored)
  if (row !== undefined && opened !== undefined && same(opened, profile)) return { ...viewOf(row), warnings }
  const applied = await store(change, row, sealed)
  await change.note('profile-applied', null, {
    profile: name,
    revision: applied.revision,
    before: stored === undefined ? null : shownProfile(stored),
    after: shownProfile(profile),
    secretsChanged: changedSecrets(opened, profile),
  })
  return { ...viewOf(applied), warnings }
}

/** Shows a profile; throws `not-found` naming those that exist. */
export async function showProfile(db: Queries, name: string): Promise<ProfileView> {
  const row = await findProfile(db, name)
  if (row !== undefined) return viewOf(row)
  const rows = await listRows(db)
  throw noSuchProfile(
    name,
    rows.map((other) => other.name),
  )
}

/** Shows profiles by name. */
export async function listProfiles(db: Queries, page: PageRequest): Promise<Listed<ProfileView>> {
  return listed(await pageOfProfiles(db, page), viewOf)
}

function viewOf(row: ProfileRow): ProfileView {
  return {
    name: row.name,
    revision: row.revision,
    profile: shownProfile(readProfile(row)),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

/** A profile as it may be shown: its secret settings are `***`. */
export function shownProfile(profile: Profile): Record<string, unknown> {
  return writeProfile(mapSecrets(profile, () => masked))
}

async function store(change: Change, before: ProfileRow | undefined, sealed: Profile): Promise<ProfileRow> {
  const now = change.now.toISOString()
  const row: ProfileRow = {
    name: sealed.name,
    document: JSON.stringify(writeProfile(sealed)),
    revision: (before?.revision ?? (await lastRevision(change.tx, 'profile', sealed.name))) + 1,
    created_at: before?.created_at ?? now,
    updated_at: now,
  }
  await putProfile(change.tx, row, before === undefined ? 'new' : 'changed')
  return row
}

/** Arguments that decide what runs as init, or stand in for what the boot itself sets, are an admin's to give. */
function checkReserved(by: By, profile: Profile): void {
  const [reserved] = reservedArguments(profile.kernelArguments)
  if (reserved === undefined || by.role === 'admin') return
  throw new PawlError('forbidden', `kernel argument "${reserved}" is reserved: it needs the role admin`)
}

/** What the kubeconfigs of a profile, its secrets open, themselves say is wrong: all of it at once. */
function checkClusters(context: BootContext, profile: Profile): void {
  const faults = sequences.flatMap((sequence) => {
    const join = joinOf(profile, sequence)
    const found = join === undefined ? [] : credentialFaults(context, join)
    return found.map(({ at, message }) => `${sequence}.join.settings.${at} ${message}`)
  })
  faults.push(...leaveFaults(profile, context.clock()))
  if (faults.length > 0) throw new PawlError('invalid', `profile "${profile.name}": ${faults.join('; ')}`)
}

/** Renders each join once, so that a value no script can carry is found now and not in the middle of a boot. */
function tryJoins(context: BootContext, sealed: Profile): void {
  for (const sequence of sequences) {
    const join = joinOf(sealed, sequence)
    if (join === undefined) continue
    const place = { host: 'node', session: 'AAAAAAAAAAAA', profile: sealed.name, sequence }
    const more =
      credentialOf(join) === 'brokered'
        ? tryCredential(context, openJoin(context, place, join))
        : seedVariables(context, { host: place.host, kind: join.kind })
    renderJoin(context, place, join, more)
  }
}

/** What is not published yet is a warning; a command line that no kernel would take whole is refused. */
async function checkImages(change: Change, profile: Profile): Promise<string[]> {
  const warnings: string[] = []
  for (const written of sourcesOf(profile)) {
    const row = await useSource(change, written)
    if (row === undefined) {
      warnings.push(missing(written))
      continue
    }
    checkFits(profile, parseManifest(JSON.parse(row.manifest)), written)
    const warning = await trustWarning(change.tx, profile, row)
    if (warning !== undefined) warnings.push(warning)
  }
  return warnings
}

/** Operations that lead nowhere yet. */
async function missingExtensions({ tx }: Change, { extensions = [] }: Profile): Promise<string[]> {
  if (extensions.length === 0) return []
  const known = new Set((await listExtensions(tx)).map(({ operation }) => operation))
  return extensions
    .filter((operation) => !known.has(operation))
    .map(
      (operation) => `it allows ${operation}, which no extension is yet: nodes that ask for it are told 500`,
    )
}

function missing(written: string): string {
  return written.includes('/')
    ? `channel ${written} points at nothing yet: boots that need it are refused until it does`
    : `image ${written} is not published yet: boots that need it are refused until it is`
}

async function useSource({ tx, context }: Change, written: string): Promise<ImageRow | undefined> {
  const source = parseImageSource(written)
  const version = source.kind === 'version' ? source.version : (await findChannel(tx, source))?.version
  return version == null ? undefined : useImage(tx, context.storage.dialect, source.name, version)
}

/**
 * Throws `invalid` where an image's kernel arguments and a profile's are more than a kernel takes, or where the profile gives it to
 * machines of another architecture. `written` is how the profile names the image.
 */
export function checkFits(profile: Profile, manifest: Manifest, written: string): void {
  checkArchitecture(profile, written, manifest)
  checkCommandLine(
    ipxeCommandLineStart + joinKernelArguments(manifest.kernelArguments, profile.kernelArguments),
  )
}

/**
 * The stored profile with its secrets open, to compare with. Undefined where this server's key does not open them: then
 * what is applied now replaces them.
 */
export function openSecrets(context: BootContext, sealed: Profile): Profile | undefined {
  return ifReadable(() => mapSecrets(sealed, (value, { place }) => context.sealer.open(value, place)))
}

function same(a: Profile, b: Profile): boolean {
  return canonicalJson(writeProfile(a)) === canonicalJson(writeProfile(b))
}

/** Which secret settings are other than before, by name, never by value. */
function changedSecrets(before: Profile | undefined, after: Profile): string[] {
  const known = before === undefined ? new Map<string, string>() : secretsIn(before)
  return [...secretsIn(after)].filter(([name, value]) => known.get(name) !== value).map(([name]) => name)
}
