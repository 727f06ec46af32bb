/** Rows about machines that come and machines that are made anew. Times, booleans and documents as in `tables.ts`. */

/** A machine that asked and is no node. */
export interface PendingMachineRow {
  code: string
  /** Names the row: SHA-256 over facts and source, and over the claim where the machine has one. */
  fingerprint: string
  facts: string
  source: string
  first_seen_at: string
  last_seen_at: string
  expires_at: string
  /** 1: an operator turned it away, until `expires_at`. */
  rejected: number
  /** SHA-256 over facts and source: the same for everyone who tells the same from the same address. */
  machine: string | null
  /** SHA-256 of the secret that only the asking machine's script was given; null where its site script cannot send one. */
  claim_hash: string | null
  /** Why no rule approved it, where one has its serial number. */
  not_by_rule: string | null
}

/** The claim by which an approved machine, whose media carries no secret, proves itself until its first boot is through. */
export interface NodeClaimRow {
  node: string
  claim_hash: string
  machine: string
  expires_at: string
}

/** A client certificate of a node; the key was never here. */
export interface NodeCertificateRow {
  /** SHA-256 of its DER, lower-case hex. */
  fingerprint: string
  node: string
  /** `RSA 2048`, `P-256`: not every iPXE has every kind. */
  key_type: string
  issued_at: string
  issued_by: string
  expires_at: string
  revoked_at: string | null
  revoked_by: string | null
  /** To the minute. */
  last_used_at: string | null
  last_used_from: string | null
}

/** The facts for which a node was refused last: what an operator may accept. */
export interface RefusedFactsRow {
  node: string
  facts: string
  source: string
  refused_at: string
}

/** A node that a rule approved, and no operator has confirmed since. */
export interface RuleApprovedNodeRow {
  node: string
}

/** A rule that approves machines by itself. */
export interface AutoApprovalRow {
  name: string
  /** JSON list of prefixes. */
  sources: string
  profile: string
  /** The template of node names. */
  node_name: string
  labels: string
  max_nodes: number
  created_at: string
  created_by: string
  expires_at: string
  revoked_at: string | null
  revoked_by: string | null
}

/** A serial number that a rule takes, and which node took it. */
export interface AutoApprovalSerialRow {
  rule: string
  serial: string
  node: string | null
  source: string | null
  used_at: string | null
}

/** A mark that runs out. */
export interface ReinstallMarkRow {
  node: string
  expires_at: string
}

/** `completed` and `cancelled` are the ends. */
export type CampaignState = 'running' | 'paused' | 'completed' | 'cancelled'

/** A reinstall of many nodes. */
export interface CampaignRow {
  id: string
  /** Which nodes, as it was asked: for people. */
  selection: string
  state: CampaignState
  /** How many may be under way; null: all at once. */
  max_parallel: number | null
  max_failures: number | null
  /** How long its marks are good for; null: for ever. */
  mark_seconds: number | null
  /** Nodes that failed since it was started or resumed. */
  failures: number
  /** Why it is paused. */
  cause: string | null
  started_by: string
  started_at: string
  ended_at: string | null
}

/** Where a node is in a campaign: `active` from its mark on. `moved`: a later reinstall took it over. */
export type CampaignNodeState =
  | 'waiting'
  | 'active'
  | 'done'
  | 'failed'
  | 'cancelled'
  | 'expired'
  | 'skipped'
  | 'moved'

/** A node's place in a campaign. */
export interface CampaignNodeRow {
  campaign: string
  node: string
  position: number
  state: CampaignNodeState
  cause: string | null
  changed_at: string
}
