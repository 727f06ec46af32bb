/**
 * The kinds of evidence, as a table: what each proves and when it can be asked for. `certificate` and `tpm` will join it.
 * `everyRedemption`: checked again whenever a token is redeemed; the enrolment secret stays with the boot media, so only
 * stage 1 can present it.
 */
export const evidenceKinds = {
  address: {
    meaning: 'the source address is a single address registered for this node alone',
    everyRedemption: true,
  },
  secret: {
    meaning: "the enrolment secret that the node's boot media carries",
    everyRedemption: false,
  },
} as const satisfies Record<string, { meaning: string; everyRedemption: boolean }>

export type EvidenceKind = keyof typeof evidenceKinds

/** What one look at a kind of evidence showed. `location`: true of the node, but not of it alone. */
export type EvidenceResult = 'proof' | 'location' | 'absent' | 'wrong'
