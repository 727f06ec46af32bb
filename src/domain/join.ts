import Type, { type Static, type TLiteral, type TObject, type TSchema } from 'typebox'
import { cloudInit } from './join/cloud-init.ts'
import { ignition } from './join/ignition.ts'
import { k3s } from './join/k3s.ts'
import type { CredentialKind, JoinFault, JoinKind } from './join/kind.ts'
import { kubeadm } from './join/kubeadm.ts'
import { nomad } from './join/nomad.ts'
import { none } from './join/none.ts'
import { rke2 } from './join/rke2.ts'
import { script } from './join/script.ts'

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
}>

function form<Name extends string, Settings extends TSchema>(
  name: Name,
  { settings }: JoinKind<Settings>,
): Form<Name, Settings> {
  return Type.Object({ kind: Type.Literal(name), settings }, strict)
}

export const joinSchema = Type.Union([
  Type.Object({ kind: Type.Literal('none'), settings: Type.Optional(none.settings) }, strict),
  form('script', script),
  form('kubeadm', kubeadm),
  form('k3s', k3s),
  form('rke2', rke2),
  form('nomad', nomad),
  form('cloud-init', cloudInit),
  form('ignition', ignition),
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
}

/** What this join lets the node in with. */
export function credentialOf(join: Join): CredentialKind {
  return joinKinds[join.kind].credential(join.settings ?? {})
}

/** Whether this join hands the node a credential. */
export function handsOutCredential(join: Join): boolean {
  return credentialOf(join) !== 'none'
}

/** What is wrong with a join that its schema cannot say. */
export function joinFault(join: Join): JoinFault | undefined {
  const fault = joinKinds[join.kind].fault?.(join.settings ?? {})
  return fault === undefined ? undefined : { ...fault, at: `settings.${fault.at}` }
}

/** The same join with each secret setting passed through `change`. */
export function mapSecretSettings(join: Join, change: (value: string, setting: string) => string): Join {
  const secret = joinKinds[join.kind].secretSettings
  const settings = Object.fromEntries(
    Object.entries(join.settings ?? {}).map(([key, value]) => [
      key,
      secret.includes(key) && typeof value === 'string' ? change(value, key) : value,
    ]),
  )
  return { ...join, settings } as Join // the same keys, each of the same type
}
