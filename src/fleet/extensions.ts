import type { BootContext } from '../boot/context.ts'
import { addKey, extensionKeys } from '../boot/extension-keys.ts'
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
import { attributed, type By, change } from './change.ts'
import { type ExtensionSettings, extensionColumns } from './extension-settings.ts'
import {
  type ExtensionKeysView,
  type ExtensionView,
  extensionSettingsOf,
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
  return change(context, by, async (change) => {
    const { tx, now, note } = change
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
  })
}

/** Removes an extension. Throws `not-found`, and `conflict` while a profile allows it. */
export function removeExtension(context: BootContext, by: By, operation: string): Promise<void> {
  return change(context, by, async (change) => {
    const { tx, note } = change
    const known = await lockExtension(tx, operation)
    if (known === undefined) throw noSuchExtension(operation)
    await requireRevision(change, { kind: 'extension', name: operation }, known.revision)
    const users = (await listProfiles(tx)).filter((row) => readProfile(row).extensions?.includes(operation))
    if (users.length > 0) {
      const names = users.slice(0, 5).map(({ name }) => `"${name}"`)
      throw new PawlError('conflict', `extension "${operation}" is allowed by profile ${names.join(', ')}`, {
        hint: 'take it out of their extensions first',
      })
    }
    await deleteExtension(tx, operation)
    await note('extension-removed', null, {
      operation,
      before: extensionSettingsOf(extensionView(context, known)),
      after: null,
    })
  })
}

/** Makes the next key. `atOnce`: it signs now, and those before are withdrawn. Throws `conflict` where another was first. */
export async function rotateExtensionKey(
  context: BootContext,
  by: By,
  { atOnce = false }: { readonly atOnce?: boolean } = {},
): Promise<ExtensionKeysView> {
  const [newest] = await extensionKeys(context)
  await change(context, by, async (work) => {
    const { actor, source, detail } = attributed(by, {})
    if ((await addKey(work, newest, { atOnce }, { actor, source, via: detail })) === undefined)
      throw new PawlError('conflict', 'another key was made at this moment')
  })
  return showExtensionKeys(context)
}

/** Sealing the same again gives other text: what is sealed is compared open. */
function same({ sealer }: BootContext, a: ExtensionRow, b: ExtensionRow): boolean {
  const plain = (row: ExtensionRow): string =>
    JSON.stringify({
      ...row,
      ...{ revision: 0, updated_at: '' },
      url: sealer.open(row.url, `extension/${row.operation}/url`),
      client_key:
        row.client_key === null ? null : sealer.open(row.client_key, `extension/${row.operation}/client-key`),
    })
  return plain(a) === plain(b)
}
