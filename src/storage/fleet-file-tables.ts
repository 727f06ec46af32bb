/** What fleet files speak of. */
export const fleetKinds = ['node', 'profile', 'channel', 'extension'] as const

/** One of them. */
export type FleetKind = (typeof fleetKinds)[number]

/** Files that are applied together, under a name. */
export interface FleetSetRow {
  name: string
  /** The digest of the files last applied; null until they were. */
  files: string | null
  applied_at: string | null
  applied_by: string | null
}

/** One thing of a set: the fields that the files named when they were last applied, secrets as `***`. */
export interface FleetObjectRow {
  kind: FleetKind
  /** A channel's is `name/channel`, an extension's its operation. */
  name: string
  set_name: string
  document: string
}
