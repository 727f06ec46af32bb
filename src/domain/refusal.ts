import { type ErrorOptions, PawlError } from '../errors.ts'
import type { EventKind } from './event.ts'

/** Why a node was not served, in words for operators. Nodes see one fixed answer for all of them. */
export const refusalCauses = {
  'unknown-node': 'no node has this name',
  'node-disabled': 'the node is disabled',
  'no-profile': 'the node has no profile',
  'no-sequence': "the node's profile does not have the sequence this boot needs",
  'image-missing': 'an image that the profile names is not published',
  'image-unsigned': 'an image is not signed, and the profile accepts signed ones only',
  'publisher-not-trusted':
    'an image is signed only by publishers that the profile does not name, or that were revoked',
  'wrong-architecture':
    'the profile has no image for the processor of this machine: see what its iPXE was built for (buildarch)',
  'channel-empty': 'a channel that the profile names points at nothing yet',
  'wrong-address': "the request came from an address that is not in the node's list",
  'address-proves-nothing': 'the address is a prefix, or another node has it too: it is a place, not a proof',
  'no-secret': 'the profile requires the enrolment secret, and none was sent',
  'wrong-secret': 'the enrolment secret is wrong, or none was issued for the node',
  'secret-foreign': 'the enrolment secret is that of another node',
  'secret-expired': 'the enrolment secret has run out',
  'secret-revoked': 'the enrolment secret was revoked',
  'secret-replaced': 'an operator has issued another enrolment secret since',
  'secret-rotated-out':
    'the node has replaced this enrolment secret itself: the medium is a copy, or was put back to an old state',
  'no-such-rotation': 'this boot was given no new enrolment secret of that name',
  'wrong-claim':
    "the machine has no secret, and its claim is not this node's, was used, is too old or came from elsewhere",
  'no-certificate': 'the profile requires a client certificate, and the client presented none',
  'certificate-other-ca': 'the client certificate is not one that the CA for nodes of this server signed',
  'certificate-unknown':
    'the client certificate is of our CA and in no list: its node was removed, or the database is older than it',
  'certificate-foreign': 'the client certificate is that of another node',
  'certificate-revoked': 'the client certificate was revoked',
  'certificate-expired': 'the client certificate has expired, or is not valid yet',
  'no-evidence': 'the profile requires no evidence that proves anything',
  'facts-contradict': "the machine's UUID or serial number is not the one registered for the node",
  'facts-changed':
    'the machine tells another UUID, serial number or MAC address than before, and the profile refuses that',
  'approved-by-rule':
    'a rule approved the machine, its profile hands out credentials now, and no operator has issued its secret since',
  'facts-ambiguous': 'the facts fit more than one node',
  'two-machines': 'another machine is booting as this node now',
  held: 'the node is held after failed reinstalls, and its client takes no script that says so',
  'not-armed': 'the node is ready and its profile wants an operator to arm each boot',
  malformed: 'the request is malformed',
  'no-token': 'no token was sent',
  'malformed-token': 'the token is not of the right form',
  'unknown-token': 'no such token was issued, or its session was removed',
  'wrong-token-secret': "the token's secret is wrong",
  'foreign-token': 'the token was given to another node',
  'wrong-order': 'the token opens another stage',
  'spent-token': 'the token was used before',
  'expired-token': 'the token is past its lifetime',
  'retired-token': 'the token was retired when its session or stage ended',
  'other-key': 'the token was used before under another Idempotency-Key',
  'session-ended': 'the session has ended',
  'session-expired': 'the session was idle or open for too long',
  'extension-not-allowed': 'the profile does not allow this extension',
  'extension-too-often': 'the boot has asked for this extension as often as one may',
  'early-success': 'success was reported before the last stage',
  'no-such-artifact': 'the image of this stage has no such artifact',
  'no-identity': 'the profile that the node booted by gives its nodes no identity, or is gone',
  'identity-proof': 'the proof of possession of the identity key is not good; the reason says why',
  'identity-proof-used': 'the proof of possession was used before: each is good once',
  'identity-other-key': 'this boot has registered another identity key before: one is registered in a boot',
  'identity-foreign-key': 'the identity key is that of another node',
  'identity-unknown-key': 'no boot of this node has registered this identity key',
  'identity-other-boot': 'the identity key is of an earlier boot of the node',
  'identity-not-in-service':
    'the boot with this identity key has not come to stage 3, or the node is not ready',
  'identity-audience': 'the profile does not name the audience, or names several and none was asked for',
  'identity-too-often': 'too many identity documents were asked for with this key in three minutes',
  'identity-address-only':
    'the boot was proved by an address alone, and the profile does not accept that for an identity',
  'identity-storm': 'the node is one of a storm, and no machine',
  'asked-too-often': 'a file was asked for more often than by a client that lost its answer',
  'does-not-fit': 'the boot script cannot be rendered with these values',
} as const

export type RefusalCause = keyof typeof refusalCauses

/** Whom a refusal is about, as far as it is known. */
export interface RefusalSubject {
  readonly node?: string | undefined
  readonly session?: string | undefined
  /** More for the event, free of secrets. */
  readonly detail?: Readonly<Record<string, unknown>>
  /** An event of its own beside the refusal, for what somebody should be called for. */
  readonly alarm?: { readonly kind: EventKind; readonly detail: Readonly<Record<string, unknown>> }
}

/** Thrown to refuse a node: rolls the transaction back, is recorded in one of its own, and looks alike outside. */
export class Refusal extends PawlError {
  readonly why: RefusalCause
  readonly subject: RefusalSubject

  constructor(why: RefusalCause, subject: RefusalSubject = {}, options: ErrorOptions = {}) {
    super('refused', 'refused', { internal: refusalCauses[why], ...options })
    this.why = why
    this.subject = subject
  }
}
