/** The answers of the operator API, by type only: the server describes them once, and nothing of it is loaded here. */

export type { RefusedFactsView } from '../fleet/accept-facts.ts'
export type { AutoApprovalView, MadeAutoApproval, RuleSerial } from '../fleet/auto-approvals.ts'
export type { CampaignView } from '../fleet/campaign-view.ts'
export type { CampaignNode } from '../fleet/campaigns.ts'
export type { ChangedChannel, ChannelHistory, ChannelView } from '../fleet/channels.ts'
export type {
  CheckpointKeySet,
  CheckpointView,
  CheckpointWithPlaces,
} from '../fleet/checkpoints.ts'
export type { PendingMachine } from '../fleet/enrolment.ts'
export type { ChainedPage, EventView, PositionsView, VerificationView } from '../fleet/event-view.ts'
export type { ExtensionKeysView, ExtensionView } from '../fleet/extension-view.ts'
export type { FleetExport, FleetSetView } from '../fleet/fleet-export.ts'
export type { FleetPlan } from '../fleet/fleet-plan.ts'
export type { IdentityView, NodeIdentityView } from '../fleet/identity.ts'
export type { ImageTestView } from '../fleet/image-tests.ts'
export type { ImageEvidence, ImageView, PublishedImage, RereadImage } from '../fleet/images.ts'
export type { LeavingView } from '../fleet/leaving-view.ts'
export type { BegunLogin, LoginAnswer } from '../fleet/login-requests.ts'
export type { MediaParts } from '../fleet/media.ts'
export type { IssuedNodeCertificate, NodeCertificateView } from '../fleet/node-certificates.ts'
export type { ListedSession, NodeLogs } from '../fleet/node-logs.ts'
export type { ImageUse, Overview, OverviewNode } from '../fleet/node-overview.ts'
export type { NodeView } from '../fleet/node-view.ts'
export type { CertificateView, IssuedCertificate } from '../fleet/operator-certificates.ts'
export type { IssuedOperator, OperatorView } from '../fleet/operators.ts'
export type { PaceView } from '../fleet/paces.ts'
export type { PersonView, SessionView } from '../fleet/people.ts'
export type { AppliedProfile, ProfileView } from '../fleet/profiles.ts'
export type { ProposalView } from '../fleet/proposals.ts'
export type { PrunePlan } from '../fleet/prune.ts'
export type { PublisherView, RegisteredPublisher, RevokedPublisher } from '../fleet/publishers.ts'
export type { ReinstallPlan } from '../fleet/reinstall.ts'
export type { RolloutView } from '../fleet/rollout-view.ts'
export type { PlannedRollout } from '../fleet/rollouts.ts'
export type { RootsView } from '../fleet/roots.ts'
export type { IssuedSecret } from '../fleet/secrets.ts'
export type { SignatureView, SignedImage, SignerView } from '../fleet/signatures.ts'
export type { Timeline } from '../fleet/timeline.ts'
export type { WebhookDeliveryView, WebhookView } from '../fleet/webhook-view.ts'
export type { IssuedWebhook } from '../fleet/webhooks.ts'
export type { Page } from '../http/schemas/answers.ts'
export type { StatusAnswer } from '../http/schemas/status.ts'
export type { PingAnswer } from '../webhooks/ping.ts'

import type { Static } from '../domain/schema.ts'
import type { NodeView } from '../fleet/node-view.ts'
import type { whoamiAnswer } from '../http/schemas/operator.ts'

/** Who is asking. */
export type Whoami = Static<typeof whoamiAnswer>

/** A node behind a change. */
export type ChangedNode = NodeView & { readonly warnings: readonly string[] }
