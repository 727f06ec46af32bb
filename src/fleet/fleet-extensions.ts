import type { BootContext } from '../boot/context.ts'
import { ifReadable } from '../boot/settings-sealer.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { extensionLimits, parseOperation, usualAnswerTypes } from '../domain/extension.ts'
import { PawlError } from '../errors.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import { listExtensions, lockExtension } from '../storage/extensions.ts'
import type { Change } from './change.ts'
import { type ExtensionSettings, extensionColumns } from './extension-settings.ts'
import { extensionSettingsOf, extensionTarget, extensionView } from './extension-view.ts'
import { applyExtensionIn, removeExtensionIn } from './extensions.ts'
import {
  applyEach,
  emptyPlan,
  type FieldChange,
  type FleetExtension,
  type FleetRequest,
  type KindPlan,
  lastOf,
  plainChange,
  type Records,
  remember,
} from './fleet-plan.ts'

/**
 * Plans what the files say of extensions, and makes the changes: a dry run takes the transaction back. Profiles come after them, which
 * name their operations.
 */
export async function applyExtensions(
  change: Change,
  request: FleetRequest,
  records: Records,
): Promise<KindPlan> {
  const plan = emptyPlan()
  const rows = new Map((await listExtensions(change.tx)).map((row) => [row.operation, row]))
  const written = new Map((request.extensions ?? []).map((one) => [one.operation, one]))
  await applyEach(plan, { request, records, kind: 'extension' }, written, (one, name) =>
    applyOne(change, plan, request, records, one, rows.get(name)),
  )
  return plan
}

async function applyOne(
  change: Change,
  plan: KindPlan,
  request: FleetRequest,
  records: Records,
  { operation, ...said }: FleetExtension,
  row: ExtensionRow | undefined,
): Promise<void> {
  const { context } = change
  const name = parseOperation(operation)
  const last = lastOf(records, request.set, 'extension', name)
  const settings = mergedSettings(context, said, row, last)
  const after = contentsOf(context, {
    ...blank(name),
    ...row,
    ...extensionColumns(context, name, settings, row),
  })
  const fields = changesOf(row === undefined ? undefined : contentsOf(context, row), after, last)
  const document = canonicalJson(
    Object.fromEntries(Object.keys(said).map((field) => [field, after.shown[field] ?? null])),
  )
  remember(plan, records, { kind: 'extension', name, set_name: request.set, document })
  if (row !== undefined && fields.length === 0) {
    plan.unchanged += 1
    return
  }
  const action = row === undefined ? 'add' : 'change'
  plan.based.push(`extension ${name} ${row?.revision ?? 0}`)
  plan.changes.push({ kind: 'extension', name, action, fields, notes: [] })
  requireAdmin(change, name)
  await applyExtensionIn(change, name, settings)
}

/** Who may: the same as with `pawl extension apply`. */
function requireAdmin({ by }: Change, name: string): void {
  if (by.role === 'admin') return
  throw new PawlError('forbidden', `extension ${name} needs the role admin to be changed`, {
    hint: 'have an admin apply these files, or keep extensions in files of their own',
  })
}

/** What is stored, with what the files say now in place, and without what they said before and say no more. */
function mergedSettings(
  context: BootContext,
  said: ExtensionSettings,
  row: ExtensionRow | undefined,
  last: Readonly<Record<string, unknown>>,
): ExtensionSettings {
  if (row === undefined) return said
  const { timeoutSeconds, maxAnswerBytes, answerTypes, ca, clientCertificate, clientKey } = extensionView(
    context,
    row,
  )
  const stored = { timeoutSeconds, maxAnswerBytes, answerTypes, ca, clientCertificate, clientKey }
  const kept = Object.entries(stored).filter(([field]) => !(field in last))
  return { ...Object.fromEntries(kept), ...said }
}

/** An extension's fields as a plan shows them, and its secrets, to compare: undefined where this server's key does not open them. */
interface Contents {
  readonly shown: Readonly<Record<string, unknown>>
  readonly secrets: Readonly<Record<string, string | undefined>> | undefined
}

function contentsOf(context: BootContext, row: ExtensionRow): Contents {
  const view = extensionView(context, row)
  const secrets = ifReadable(() => {
    const { url, client } = extensionTarget(context, row)
    return { url: url.href, clientKey: client?.key }
  })
  return { shown: { ...extensionSettingsOf(view), clientKey: view.clientKey }, secrets }
}

/** The fields of a row that its settings do not fill in. */
function blank(operation: string): Omit<ExtensionRow, keyof ReturnType<typeof extensionColumns>> {
  return { operation, revision: 0, created_at: '', created_by: '', updated_at: '' }
}

/** What an extension is whose files say nothing but its URL: of a new one, only what they say otherwise is worth showing. */
const usual: Readonly<Record<string, unknown>> = {
  timeoutSeconds: extensionLimits.timeoutSeconds.usual,
  maxAnswerBytes: extensionLimits.maxAnswerBytes.usual,
  answerTypes: usualAnswerTypes,
}

/** What differs. Of what is hidden, only that it does. */
function changesOf(
  before: Contents | undefined,
  { shown, secrets }: Contents,
  last: Readonly<Record<string, unknown>>,
): FieldChange[] {
  const same = (a: unknown, b: unknown): boolean => canonicalJson(a ?? null) === canonicalJson(b ?? null)
  const old = before?.shown ?? usual
  return Object.keys(shown).flatMap((field) => {
    const [was, is] = [old[field], shown[field]]
    const drifted = field in last && !same(last[field], was)
    if (!same(was, is) && (field !== 'clientKey' || is === null))
      return [{ ...plainChange(field, before === undefined ? null : was, is), drifted }]
    const hidden = before?.secrets?.[field] !== secrets?.[field]
    return hidden && (before !== undefined || field === 'clientKey')
      ? [{ ...plainChange(field, null, null), secret: true }]
      : []
  })
}

/** Removes an extension that no profile allows but those that go too; throws naming the one that does. Returns what it was. */
export async function removeExtensionOf(
  change: Change,
  name: string,
  leaving: ReadonlySet<string>,
): Promise<ExtensionRow | undefined> {
  const row = await lockExtension(change.tx, name)
  if (row === undefined) return undefined
  requireAdmin(change, name)
  await removeExtensionIn(change, row, leaving)
  return row
}
