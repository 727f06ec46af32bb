/**
 * The kinds of evidence, as a table: what each proves and when it can be asked for. `tpm` will join it.
 * `everyRedemption`: checked again whenever a token is redeemed; the enrolment secret stays with the boot media, so only
 * stage 1 can present it. `firmware`: whether the iPXE of every site can present it. Stock iPXE has no client certificate
 * (only an own build has one compiled in), so where another kind proves the node a certificate may first come with stage 2.
 */
export const evidenceKinds = {
  address: {
    meaning: 'the source address is a single address registered for this node alone',
    everyRedemption: true,
    firmware: true,
  },
  secret: {
    meaning: "the enrolment secret that the node's boot media carries",
    everyRedemption: false,
    firmware: true,
  },
  certificate: {
    meaning: 'a client certificate that this server issued for the node, and the key to it',
    everyRedemption: true,
    firmware: false,
  },
} as const satisfies Record<string, { meaning: string; everyRedemption: boolean; firmware: boolean }>

export type EvidenceKind = keyof typeof evidenceKinds

/** What one look at a kind of evidence showed. `location`: true of the node, but not of it alone. */
export type EvidenceResult = 'proof' | 'location' | 'absent' | 'wrong'
