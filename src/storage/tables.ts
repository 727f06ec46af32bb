import type { Generated } from 'kysely'
import type { EventKind } from '../domain/event.ts'
import type { StageName } from '../domain/stage.ts'
import type { NodeState, ReinstallState, SessionState } from '../domain/state.ts'
import type { TokenKind } from '../domain/token.ts'
import type { IdempotentAnswerRow } from './api-tables.ts'
import type { CheckpointHeadRow, CheckpointKeyRow, CheckpointRow } from './audit-tables.ts'
import type { ExtensionCallRow, ExtensionRow } from './extension-tables.ts'
import type { FleetObjectRow, FleetSetRow } from './fleet-file-tables.ts'
import type {
  LoginRequestRow,
  OperatorCertificateRow,
  OperatorSessionRow,
  PersonRow,
} from './identity-tables.ts'
import type {
  ArtifactRemovalRow,
  ChannelMoveRow,
  ChannelRow,
  ImageArtifactRow,
  ImageTestRow,
  ProposalRow,
  PrunedImageRow,
  RolloutNodeRow,
  RolloutRow,
} from './image-tables.ts'
import type { JoinCredentialRow } from './join-tables.ts'
import type { LeavingRow } from './leaving-tables.ts'
import type {
  AutoApprovalRow,
  AutoApprovalSerialRow,
  CampaignNodeRow,
  CampaignRow,
  NodeCertificateRow,
  NodeClaimRow,
  PendingMachineRow,
  RefusedFactsRow,
  ReinstallMarkRow,
  RuleApprovedNodeRow,
} from './machine-tables.ts'
import type { IdentityProofRow, NodeIdentityRow } from './node-identity-tables.ts'
import type { BootTimesReadRow, BootTimesRow, SessionPaceRow, UsualTimeRow } from './pace-tables.ts'
import type { ProcessRow } from './process-tables.ts'
import type { ImageSignatureRow, PublisherRow } from './publisher-tables.ts'
import type { NodeRootRow } from './root-tables.ts'
import type { NodeSecretRow } from './secret-tables.ts'
import type { JoinSeedRow } from './seed-tables.ts'
import type { SigningKeyRow } from './signing-key-tables.ts'
import type { SessionLogRow, SessionSpanRow } from './span-tables.ts'
import type { TicketKeyRow } from './ticket-tables.ts'
import type { TraceCursorRow } from './trace-tables.ts'
import type { WebhookDeliveryRow, WebhookRow } from './webhook-tables.ts'

/**
 * The rows, the same on SQLite and PostgreSQL: times are ISO 8601 UTC text with milliseconds (so that text order is
 * time order), booleans are 0 or 1, documents are JSON text. Secrets are SHA-256 hashes, or sealed (`answer`).
 */
export interface Tables {
  nodes: NodeRow
  node_addresses: NodeAddressRow
  node_macs: NodeMacRow
  profiles: ProfileRow
  images: ImageRow
  sessions: SessionRow
  session_stages: SessionStageRow
  join_seeds: JoinSeedRow
  session_spans: SessionSpanRow
  session_logs: SessionLogRow
  session_paces: SessionPaceRow
  boot_times: BootTimesRow
  boot_times_read: BootTimesReadRow
  usual_times: UsualTimeRow
  tokens: TokenRow
  join_credentials: JoinCredentialRow
  leavings: LeavingRow
  node_roots: NodeRootRow
  processes: ProcessRow
  ticket_keys: TicketKeyRow
  identity_keys: SigningKeyRow
  node_identities: NodeIdentityRow
  identity_proofs: IdentityProofRow
  trace_cursor: TraceCursorRow
  node_secrets: NodeSecretRow
  pending_machines: PendingMachineRow
  node_claims: NodeClaimRow
  node_certificates: NodeCertificateRow
  refused_facts: RefusedFactsRow
  auto_approvals: AutoApprovalRow
  auto_approval_serials: AutoApprovalSerialRow
  reinstall_marks: ReinstallMarkRow
  rule_approved_nodes: RuleApprovedNodeRow
  campaigns: CampaignRow
  campaign_nodes: CampaignNodeRow
  chains: ChainRow
  events: EventRow
  checkpoints: CheckpointRow
  checkpoint_heads: CheckpointHeadRow
  checkpoint_keys: CheckpointKeyRow
  operators: OperatorRow
  people: PersonRow
  operator_sessions: OperatorSessionRow
  login_requests: LoginRequestRow
  operator_certificates: OperatorCertificateRow
  image_artifacts: ImageArtifactRow
  artifact_removals: ArtifactRemovalRow
  pruned_images: PrunedImageRow
  image_tests: ImageTestRow
  channels: ChannelRow
  channel_moves: ChannelMoveRow
  proposals: ProposalRow
  rollouts: RolloutRow
  rollout_nodes: RolloutNodeRow
  publishers: PublisherRow
  image_signatures: ImageSignatureRow
  fleet_sets: FleetSetRow
  fleet_objects: FleetObjectRow
  extensions: ExtensionRow
  extension_calls: ExtensionCallRow
  extension_keys: SigningKeyRow
  webhooks: WebhookRow
  webhook_deliveries: WebhookDeliveryRow
  idempotent_answers: IdempotentAnswerRow
}

export interface NodeRow {
  id: string
  name: string
  profile: string | null
  state: NodeState
  /** Set exactly while `state` is `failed`: `reported` or `expired`. */
  failure_cause: string | null
  uuid: string | null
  serial: string | null
  labels: string
  reinstall: ReinstallState
  reinstall_attempts: number
  /** The session that serves the reinstall sequence, exactly while `reinstall` is `serving`. */
  reinstall_session: string | null
  armed: number
  /** Since when it boots again and again without a report (`boot/stage1-limit.ts`); null where it does not. */
  looping_since: string | null
  /** Its next stage 1 is not served before; null where it did not ask, or need not wait. */
  held_back_until: string | null
  /** Boots before an operator's act do not count for a loop. */
  boots_counted_from: string | null
  /** Of the tunnel that the join of its last successful boot set up; null where that set up none. A boot from the local disk keeps it. */
  wireguard_public_key: string | null
  /** Its current enrolment secret (`node_secrets`). */
  secret_id: string | null
  secret_hash: string | null
  /** The machine's facts at its last stage 1. */
  last_facts: string | null
  /** Its latest session, ended or not. */
  session: string | null
  created_at: string
  updated_at: string
  /** Counted up with each change by an operator; what boots change does not count. */
  revision: number
}

export interface NodeAddressRow {
  node: string
  address: string
  prefix_length: number
}

export interface NodeMacRow {
  mac: string
  node: string
}

export interface ProfileRow {
  name: string
  /** The profile with its secret settings sealed. */
  document: string
  revision: number
  created_at: string
  updated_at: string
}

export interface ImageRow {
  name: string
  version: string
  manifest: string
  digest: string
  created_at: string
  created_by: string
}

export interface SessionRow {
  id: string
  node: string
  sequence: 'boot' | 'reinstall'
  tokens: 'native' | 'epoxy'
  local: number
  state: SessionState
  /** The last stage opened. */
  stage: StageName
  /** Why it ended, where it ended badly. */
  cause: string | null
  /** Everything that was decided at stage 1: images by digest, arguments, join. */
  pinned: string
  facts: string
  source: string
  started_at: string
  last_seen_at: string
  expires_at: string
  /** Set exactly when `state` is an end. */
  ended_at: string | null
}

export interface SessionStageRow {
  session: string
  stage: StageName
  opened_at: string
  bytes: number
}

export interface TokenRow {
  id: string
  session: string
  kind: TokenKind
  secret_hash: string
  issued_at: string
  expires_at: string
  consumed_at: string | null
  retired_at: string | null
  /** The answer of a redemption, sealed under the token's secret and its Idempotency-Key (`boot/sealed-answer.ts`). */
  answer: string | null
}

export interface ChainRow {
  name: string
  base_seq: number
  base_hash: string
  head_seq: number
  head_hash: string
}

export interface EventRow {
  id: Generated<number>
  chain: string
  seq: number
  at: string
  kind: EventKind
  node: string | null
  session: string | null
  actor: string
  source: string | null
  detail: string
  prev_hash: string
  hash: string
}

export type Role = 'viewer' | 'operator' | 'publisher' | 'admin'

export interface OperatorRow {
  id: string
  name: string
  role: Role
  secret_hash: string
  created_at: string
  expires_at: string | null
  revoked_at: string | null
  /** A pattern of image names, for publishers; null: every image. */
  scope: string | null
  /** To the minute. */
  last_used_at: string | null
  last_used_from: string | null
  /** Whose it is where `pawl login` made it: it ends with the person. */
  person: string | null
}
