import { k3s, rke2 } from './join/agent.ts'
import { cloudInit } from './join/cloud-init.ts'
import { extension } from './join/extension.ts'
import { ignition } from './join/ignition.ts'
import type { CredentialKind, JoinFault, JoinKind } from './join/kind.ts'
import { kubeadm } from './join/kubeadm.ts'
import { nomad } from './join/nomad.ts'
import { none } from './join/none.ts'
import { overlayFault, overlayKinds, overlaySchema } from './join/overlay.ts'
import { script } from './join/script.ts'
import Type, { type Static, type TLiteral, type TObject, type TOptional, type TSchema } from './schema.ts'

/**
 * The ways a node joins its cluster, as data: the settings each takes, and which of them are secret (sealed at rest,
 * shown as `***`) or hand out a credential (so that an address alone may not open them). A kind is a file in `join/`
 * and a line in each of the two tables here.
 */
const strict = { additionalProperties: false } as const

/** How a join of one kind is written. */
type Form<Name extends string, Settings extends TSchema> = TObject<{
  kind: TLiteral<Name>
  settings: Settings
  overlay: TOptional<typeof overlaySchema>
}>

const overlay = Type.Optional(overlaySchema)

function form<Name extends string, Settings extends TSchema>(
  name: Name,
  { settings }: JoinKind<Settings>,
): Form<Name, Settings> {
  return Type.Object({ kind: Type.Literal(name), settings, overlay }, strict)
}

export const joinSchema = Type.Union([
  Type.Object({ kind: Type.Literal('none'), settings: Type.Optional(none.settings), overlay }, strict),
  form('script', script),
  form('kubeadm', kubeadm),
  form('k3s', k3s),
  form('rke2', rke2),
  form('nomad', nomad),
  form('cloud-init', cloudInit),
  form('ignition', ignition),
  form('extension', extension),
])

/** How a node joins, with its settings. */
export type Join = Static<typeof joinSchema>

export const joinKinds: Readonly<Record<Join['kind'], JoinKind>> = {
  none,
  script,
  kubeadm,
  k3s,
  rke2,
  nomad,
  'cloud-init': cloudInit,
  ignition,
  extension,
}

/** What this join lets the node in with. */
export function credentialOf(join: Join): CredentialKind {
  return joinKinds[join.kind].credential(join.settings ?? {})
}

/** Whether this join hands the node a credential, be it to its cluster or to a network before it. */
export function handsOutCredential(join: Join): boolean {
  return credentialOf(join) !== 'none' || secretsOf(join).length > 0
}

/** What is wrong with a join that its schema cannot say. */
export function joinFault(join: Join): JoinFault | undefined {
  const fault = joinKinds[join.kind].fault?.(join.settings ?? {})
  if (fault !== undefined) return { ...fault, at: `settings.${fault.at}` }
  // A service's script is run as it comes: it may be of any interpreter, so nothing can be put before it.
  if (join.kind === 'extension' && join.settings.answer === 'script' && join.overlay !== undefined)
    return { at: 'overlay', message: 'cannot stand before a script that an extension answers' }
  const below = join.overlay === undefined ? undefined : overlayFault(join.overlay)
  return below === undefined ? undefined : { ...below, at: `overlay.${below.at}` }
}

/** A secret of a join: `token` of its settings, `overlay.authKey` of its overlay. */
export interface JoinSecret {
  readonly part: 'settings' | 'overlay'
  readonly field: string
  /** What it is called where it is sealed. */
  readonly name: string
}

/** The secrets that a join of this form may have; nothing of it need have been checked yet. */
export function secretsOf(join: { readonly kind?: unknown; readonly overlay?: unknown }): JoinSecret[] {
  const { kind: below } = (join.overlay ?? {}) as { kind?: unknown }
  return [
    ...secretNames(joinKinds, join.kind).map((field) => ({ part: 'settings' as const, field, name: field })),
    ...secretNames(overlayKinds, below).map((field) => ({
      ...{ part: 'overlay' as const, field },
      name: `overlay.${field}`,
    })),
  ]
}

function secretNames(
  kinds: Readonly<Record<string, { readonly secretSettings: readonly string[] }>>,
  kind: unknown,
): readonly string[] {
  return typeof kind === 'string' && Object.hasOwn(kinds, kind) ? (kinds[kind]?.secretSettings ?? []) : []
}

/** The same join with each secret passed through `change`, which is told what it is called where it is sealed, and its field. */
export function mapSecretSettings(
  join: Join,
  change: (value: string, name: string, field: string) => string,
): Join {
  return mapSecretFields(join, (value, { name, part, field }) =>
    typeof value === 'string' ? change(value, name, `${part}.${field}`) : value,
  ) as Join // the same keys, each of the same type
}

/** The same of a join that need not have been checked: each secret that is there may become anything. */
export function mapSecretFields(
  join: { readonly kind?: unknown; readonly overlay?: unknown },
  change: (value: unknown, secret: JoinSecret) => unknown,
): Record<string, unknown> {
  const changed: Record<string, unknown> = { ...join }
  for (const secret of secretsOf(join)) {
    const part = changed[secret.part]
    if (
      typeof part !== 'object' ||
      part === null ||
      Array.isArray(part) ||
      !Object.hasOwn(part, secret.field)
    )
      continue
    const value = change((part as Record<string, unknown>)[secret.field], secret)
    changed[secret.part] = { ...part, [secret.field]: value }
  }
  return changed
}
