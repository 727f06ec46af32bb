/** The answers of the operator API, by type only: the server describes them once, and nothing of it is loaded here. */
export type { PendingMachine } from '../fleet/enrolment.ts'
export type { EventView, VerificationView } from '../fleet/event-view.ts'
export type { ImageView, PublishedImage } from '../fleet/images.ts'
export type { NodeView } from '../fleet/node-view.ts'
export type { IssuedOperator, OperatorView } from '../fleet/operators.ts'
export type { AppliedProfile, ProfileView } from '../fleet/profiles.ts'
export type { ReinstallPlan } from '../fleet/reinstall.ts'
export type { IssuedSecret } from '../fleet/secrets.ts'
export type { Timeline } from '../fleet/timeline.ts'
export type { Page } from '../http/schemas/answers.ts'

import type { NodeView } from '../fleet/node-view.ts'

/** A node behind a change. */
export type ChangedNode = NodeView & { readonly warnings: readonly string[] }
