/** The answers of the operator API, by type only: the server describes them once, and nothing of it is loaded here. */
export type { ChangedChannel, ChannelHistory, ChannelView } from '../fleet/channels.ts'
export type { PendingMachine } from '../fleet/enrolment.ts'
export type { EventView, VerificationView } from '../fleet/event-view.ts'
export type { ImageTestView } from '../fleet/image-tests.ts'
export type { ImageEvidence, ImageView, PublishedImage, RereadImage } from '../fleet/images.ts'
export type { NodeView } from '../fleet/node-view.ts'
export type { IssuedOperator, OperatorView } from '../fleet/operators.ts'
export type { AppliedProfile, ProfileView } from '../fleet/profiles.ts'
export type { ProposalView } from '../fleet/proposals.ts'
export type { PrunePlan } from '../fleet/prune.ts'
export type { PublisherView, RegisteredPublisher, RevokedPublisher } from '../fleet/publishers.ts'
export type { ReinstallPlan } from '../fleet/reinstall.ts'
export type { RolloutView } from '../fleet/rollout-view.ts'
export type { PlannedRollout } from '../fleet/rollouts.ts'
export type { IssuedSecret } from '../fleet/secrets.ts'
export type { SignatureView, SignedImage, SignerView } from '../fleet/signatures.ts'
export type { Timeline } from '../fleet/timeline.ts'
export type { Page } from '../http/schemas/answers.ts'

import type { NodeView } from '../fleet/node-view.ts'

/** A node behind a change. */
export type ChangedNode = NodeView & { readonly warnings: readonly string[] }
