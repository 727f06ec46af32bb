import type { BootContext } from '../boot/context.ts'
import { addExtensionKey, extensionKeys, makeExtensionKey } from '../boot/extension-keys.ts'
import { ifReadable } from '../boot/settings-sealer.ts'
import { extensionLimits, parseOperation } from '../domain/extension.ts'
import { PawlError } from '../errors.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import {
  deleteExtension,
  insertExtension,
  listExtensions,
  lockExtension,
  updateExtension,
} from '../storage/extensions.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import { deleteObjects } from '../storage/fleet-files.ts'
import { attributed, type By, type Change, change } from './change.ts'
import { type ExtensionSettings, extensionColumns } from './extension-settings.ts'
import {
  type ExtensionKeysView,
  type ExtensionView,
  extensionSettingsOf,
  extensionTarget,
  extensionView,
  noSuchExtension,
  showExtensionKeys,
} from './extension-view.ts'
import { requireRevision } from './revision.ts'

/** Sets what an extension is: what is left out has its default. The same again changes nothing. Throws `invalid`, `conflict`. */
export function applyExtension(
  context: BootContext,
  by: By,
  operation: string,
  asked: ExtensionSettings,
): Promise<ExtensionView> {
  return change(context, by, (change) => applyExtensionIn(change, operation, asked))
}

/** The same inside a change. */
export async function applyExtensionIn(
  change: Change,
  operation: string,
  asked: ExtensionSettings,
): Promise<ExtensionView> {
  const { context, by, tx, now, note } = change
  const name = parseOperation(operation)
  const known = await lockExtension(tx, name)
  await requireRevision(change, { kind: 'extension', name }, known?.revision)
  if (known === undefined && (await listExtensions(tx)).length >= extensionLimits.extensions)
    throw new PawlError('conflict', `there are ${extensionLimits.extensions} extensions already`)
  const columns = extensionColumns(context, name, asked, known)
  const row: ExtensionRow = {
    ...{ operation: name, ...columns, revision: (known?.revision ?? 0) + 1 },
    created_at: known?.created_at ?? now.toISOString(),
    created_by: known?.created_by ?? by.actor,
    updated_at: now.toISOString(),
  }
  const before = known === undefined ? undefined : extensionView(context, known)
  if (known !== undefined && same(context, known, row)) return extensionView(context, known)
  if (known === undefined) await insertExtension(tx, row)
  else await updateExtension(tx, row)
  const view = extensionView(context, row)
  await note('extension-applied', null, {
    operation: name,
    before: before === undefined ? null : extensionSettingsOf(before),
    after: extensionSettingsOf(view),
    revision: row.revision,
  })
  return view
}

/** Removes an extension. Throws `not-found`, and `conflict` while a profile allows it. */
export function removeExtension(context: BootContext, by: By, operation: string): Promise<void> {
  return change(context, by, async (change) => {
    const known = await lockExtension(change.tx, operation)
    if (known === undefined) throw noSuchExtension(operation)
    await requireRevision(change, { kind: 'extension', name: operation }, known.revision)
    await removeExtensionIn(change, known)
  })
}

/** The same inside a change; the profiles in `leaving` are about to go, and hold nothing back. */
export async function removeExtensionIn(
  { context, tx, note }: Change,
  row: ExtensionRow,
  leaving: ReadonlySet<string> = new Set(),
): Promise<void> {
  const { operation } = row
  const users = (await listProfiles(tx)).filter(
    (profile) => !leaving.has(profile.name) && readProfile(profile).extensions?.includes(operation),
  )
  if (users.length > 0) {
    const names = users.slice(0, 5).map(({ name }) => `"${name}"`)
    throw new PawlError('conflict', `extension "${operation}" is allowed by profile ${names.join(', ')}`, {
      hint: 'take it out of their extensions first',
    })
  }
  await deleteExtension(tx, operation)
  await deleteObjects(tx, 'extension', [operation]) // one that is made later under its name is not what files made
  await note('extension-removed', null, {
    operation,
    before: extensionSettingsOf(extensionView(context, row)),
    after: null,
  })
}

/** Makes the next key. `atOnce`: it signs now, and those before are withdrawn. Throws `conflict` where another was first. */
export async function rotateExtensionKey(
  context: BootContext,
  by: By,
  { atOnce = false }: { readonly atOnce?: boolean } = {},
): Promise<ExtensionKeysView> {
  const [newest] = await extensionKeys(context)
  const made = await makeExtensionKey(context)
  await change(context, by, async (work) => {
    const { actor, source, detail } = attributed(by, {})
    if (!(await addExtensionKey(work, made, newest, { atOnce }, { actor, source, via: detail })))
      throw new PawlError('conflict', 'another key was made at this moment')
  })
  return showExtensionKeys(context)
}

/** Sealing the same again gives other text: what is sealed is compared open, and what cannot be opened is never the same. */
function same(context: BootContext, a: ExtensionRow, b: ExtensionRow): boolean {
  const plain = (row: ExtensionRow): string | undefined =>
    ifReadable(() => {
      const { url, client } = extensionTarget(context, row)
      return JSON.stringify({ ...row, revision: 0, updated_at: '', url: url.href, client_key: client?.key })
    })
  return plain(a) !== undefined && plain(a) === plain(b)
}
