/** A credential of one boot session at the cluster that it joins. */
export interface JoinCredentialRow {
  session: string
  /** The node's name: it may be removed before its credential is. */
  node: string
  profile: string
  sequence: 'boot' | 'reinstall'
  kind: string
  /** What the cluster knows it by; no secret. */
  handle: string
  /** Its secret, sealed. */
  sealed: string
  /** The settings of the join by which it is made and removed: JSON, the secret ones sealed. */
  settings: string
  /** `called`: the cluster was asked, and whether it did it is not known; `made`: the node has it. */
  state: 'planned' | 'called' | 'made'
  created_at: string
  /** When the cluster takes it no more; null before it was asked. */
  expires_at: string | null
  /** Until then at most a call is under way, or may be carried out that was given up; null where there is none. */
  call_until: string | null
  made_at: string | null
  /** Why the cluster did not make it: each cause once, between commas, the first first. */
  fault: string | null
  /** Why it is to be removed; null while it is wanted. */
  removal: string | null
  /** When its removal is tried next. */
  remove_at: string | null
  removal_tries: number
}
