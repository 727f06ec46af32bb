/** What may wait for a second person: a stage-2 image, a move of a channel, a publisher's certificate, a rollout. */
export const proposalKinds = ['image', 'channel', 'publisher', 'rollout'] as const
export type ProposalKind = (typeof proposalKinds)[number]

/** How long a proposal waits, in seconds: a week. */
export const proposalLifetimeSeconds = 7 * 86_400
