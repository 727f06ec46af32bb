import { hash } from 'node:crypto'
import { canonicalJson } from './canonical-json.ts'

/**
 * Events are the record of everything that happened. Each belongs to a chain (one per node, one for the system, one
 * bounded chain for requests that name no known node), has the next number of it, and carries the hash of the one
 * before it, so that an edit, a removal or an insertion breaks every hash that follows.
 */

/** Every kind of event, with what it records. Docs and dashboard take their words from here. */
export const eventKinds = {
  'node-added': 'a node was registered',
  'node-changed': "a node's settings were changed",
  'node-removed': 'a node was removed, its tokens spent',
  'node-disabled': 'a node was disabled, its tokens spent',
  'node-enabled': 'a disabled node was enabled',
  'node-armed': 'an operator allowed one boot of a ready node',
  'node-held': 'a reinstall failed too often; the node waits for an operator',
  'secret-issued': 'an enrolment secret was issued, replacing the one before',
  'secret-revoked': 'the enrolment secret was revoked',
  'secret-expiring': 'the enrolment secret runs out soon: media that carries it is refused then',
  'secret-offered': 'the full system was given a new enrolment secret for its boot medium',
  'secret-written': 'the node has written its new enrolment secret to its boot medium',
  'secret-not-written':
    'the node could not write its new enrolment secret to its boot medium; the old one stays good',
  'secret-rotated': 'the node came with its new enrolment secret: the one before opens nothing any more',
  'secret-reused-after-rotation':
    'somebody came with an enrolment secret that the node itself has replaced: the medium was copied, or put back to an old state',
  'two-machines': 'another machine came as a node that is booting, and was refused',
  'machines-alternate':
    'two machines come as one node in turn: its boot medium was copied, or goes to and fro',
  'node-certificate-issued': 'a client certificate was issued for a node',
  'node-certificate-revoked': 'a client certificate of a node was revoked',
  'reinstall-marked': 'a node was marked for reinstall',
  'reinstall-cancelled': 'a reinstall mark was cancelled',
  'reinstall-expired': 'a reinstall mark ran out before a boot served it',
  'leave-started': 'a node began to leave its cluster, to be reinstalled',
  'leave-drained': 'a node has left its cluster, and was marked for reinstall',
  'leave-completed': 'a node has left its cluster and was rebooted, or is for the operator to reboot',
  'leave-failed': 'a node could not leave its cluster, or could not be rebooted; the cause says why',
  'leave-cancelled': 'a node is not to leave its cluster any more',
  'cluster-node-removed': "a node's object was removed from its cluster",
  'campaign-started': 'a reinstall of many nodes began',
  'campaign-paused': 'a reinstall of many nodes was paused: no further node is marked',
  'campaign-resumed': 'a paused reinstall of many nodes went on',
  'campaign-cancelled': 'a reinstall of many nodes was ended, its marks taken back',
  'campaign-completed': 'a reinstall of many nodes is over: no node waits or is under way',
  'campaign-node-skipped': 'a node whose turn came could not be marked for reinstall any more',
  'profile-applied': 'a profile was made or changed',
  'profile-removed': 'a profile was removed',
  'fleet-applied': 'fleet files were applied: what was added, changed and removed',
  'image-published': 'an image version was published',
  'image-signed': 'a publisher signed an image version',
  'publisher-registered': 'who holds a certificate may sign images',
  'publisher-revoked': 'a publisher may sign no more, and what it alone signed boots no more',
  'root-rotated': 'a CA was made that takes the place of the one there is',
  'root-cut-over': 'the next CA took the place of the one before, whose root is served no more',
  'operator-created': 'an operator token was created',
  'operator-revoked': 'an operator token was revoked',
  'operator-refused': 'a token, session or certificate was not accepted; the cause says why',
  'signed-in': 'a person signed in through the provider',
  'signed-out': 'a person signed out',
  'sign-in-refused': 'a sign-in was not accepted; the cause says why',
  'sign-in-ended': "an admin ended a person's session, or all that a person had",
  'login-approved': 'a person confirmed the code of a command line, which gets a token',
  'login-denied': 'a person turned down the code of a command line',
  'certificate-issued': 'a client certificate was issued',
  'certificate-revoked': 'a client certificate was revoked',
  'webhook-created': 'a webhook was made',
  'webhook-changed': 'where a webhook sends, or what, was changed',
  'webhook-removed': 'a webhook was removed',
  'webhook-enabled': 'a webhook sends again',
  'webhook-disabled': 'a webhook sends nothing more: an operator said so, or its receiver answered 410 Gone',
  'webhook-secret-rotated': 'a webhook signs with a new secret',
  'webhook-events-lost': 'events went beyond their time before a webhook had taken them',
  'webhook-failing':
    'a receiver did not take an event in 24 hours of tries: the first dead letter since it took one',
  'webhook-redelivered': 'ended deliveries of a webhook are sent again',
  'extension-applied': 'what an extension is, was set: its service, and how it is asked',
  'extension-removed': 'an extension was removed: nodes are told that there is none',
  'extension-answered': 'an extension service answered what a booting node had asked',
  'extension-failed':
    'an extension service gave a booting node no answer; the reason says why. Frequent ones are counted, not listed',
  'extension-key-made':
    'a key that signs requests to extension services was made: it is published, and signs from its time on',
  'image-tested': 'a test boot of an image version passed or failed',
  'images-pruned': 'image versions that nothing uses were removed',
  'channel-moved': 'a channel was pointed at a version',
  'channel-protected': "a channel's rules were changed",
  'channel-removed': 'a channel was removed, with its history',
  'change-proposed': 'a change was proposed that needs a second person',
  'change-approved': 'a second person approved a change',
  'change-rejected': 'a proposed change was turned down',
  'rollout-started': 'a rollout began',
  'rollout-advanced': "a rollout's next wave began",
  'rollout-paused': 'a rollout was paused',
  'rollout-resumed': 'a paused rollout went on',
  'rollout-halted': 'too many nodes failed: the rollout was halted, the version before is served again',
  'rollout-aborted': 'an operator ended a rollout, the version before is served again',
  'rollout-completed': 'every wave of a rollout passed: the channel moved',
  'machine-pending': 'an unknown machine asked to be enrolled',
  'machine-approved': 'an unknown machine became a node',
  'machine-auto-approved': 'an unknown machine became a node by a rule',
  'auto-approval-refused':
    'a machine has a serial number of a rule, and was not approved by it; the cause says why',
  'auto-approval-created': 'a rule that approves machines was made',
  'auto-approval-revoked': 'a rule that approves machines was revoked',
  'auto-approval-removed': 'a rule that was over was removed',
  'machine-rejected': 'an unknown machine was turned away',
  'session-opened': 'stage 1 was served: a boot session began',
  'session-superseded': 'a later stage 1 retired the session',
  'session-failed': 'the session ended in a final error',
  'session-expired': 'the session ran out of time',
  'booted-local': 'the node was sent to its installed disk',
  'asked-while-held': 'a held node asked for stage 1',
  'handover-opened': 'iPXE fetched the handover',
  'stage2-redeemed': 'the minimal system redeemed its token',
  'download-redirected':
    'the agent was sent to the object storage for an artifact; its bytes are counted as asked for',
  'stage3-redeemed': 'the full system redeemed its token',
  'join-redeemed': 'the join script was handed out',
  'identity-key-registered': 'the node registered the key of its identity, made in this boot',
  'identity-issued':
    'the node was given its first identity document for an audience; renewals are counted, not listed',
  'seed-served':
    'cloud-init or Ignition fetched a file that the profile has for the node, for the first time',
  'credential-made': 'the cluster made a join credential for this boot',
  'credential-refused':
    'a join waits: its cluster made no credential, or its secrets do not open; the cause says why',
  'credential-removed': 'the join credential of a boot is gone from its cluster',
  'credential-not-removed':
    'the join credential of a boot could not be removed yet: it is tried again until its time is over',
  'answer-repeated': 'an answer that was lost was given again under its key',
  'attempt-failed': 'the node reported an error and may try again',
  'session-ready': 'the node reported success',
  'reported-late': 'a report came from a session that is no longer current',
  'address-changed': 'a session went on from another address',
  'facts-changed': "the machine's facts differ from the boot before",
  'facts-accepted': 'an operator accepted the facts that a node was refused for',
  'too-many-boots': 'a node that loops asked for stage 1, and was told to come later',
  'node-looping': 'a node boots again and again without a report: it is held back with growing pauses',
  'boot-slow': 'a boot is in a stage for longer than usual',
  'boot-stuck': 'a boot is in a stage for far longer than usual, or nothing is heard of it',
  'overload-began': 'more machines asked than the server had room for: some were told when to come again',
  'overload-ended': 'an overload was over: how long it was, and how often machines were told to come again',
  'backup-made': 'a backup was made',
  restored: 'the database came from a backup: what was open in it has ended',
  'database-downgraded': 'the database was taken back to an older release',
  'database-moved': 'the database was moved from SQLite to PostgreSQL',
  refused: 'a request was not served; the cause says why',
  'refusals-counted': 'more refusals of one kind, counted instead of listed',
  'handshake-failed': 'a TLS handshake did not succeed',
  'checkpoint-signed': 'a signed statement of where every chain is was made',
  'checkpoint-refused': 'no checkpoint was signed: chains do not go on from the last one',
  'checkpoint-key-replaced': 'checkpoints are signed with another key from here on',
  'identity-key-made':
    'a key for the identity documents of nodes was made: it is published, and signs from its time on',
  'identity-keys-withdrawn':
    'keys of identity documents were withdrawn: everything they signed is worth nothing from here on',
  'events-trimmed': 'events beyond their time were removed from the old end of their chains',
} as const

export type EventKind = keyof typeof eventKinds

/** What is told of an event; number and hashes come from its chain. Values in `detail` hold no secret. */
export interface EventFacts {
  readonly kind: EventKind
  readonly at: Date
  readonly node: string | null
  readonly session: string | null
  /** Who caused it: `node`, `server`, or `operator:NAME`. */
  readonly actor: string
  /** The address it came from, where there is one. */
  readonly source: string | null
  readonly detail: Readonly<Record<string, unknown>>
}

/** An event as its chain holds it. `at` is ISO 8601 UTC with milliseconds, `detail` is canonical JSON. */
export interface ChainedEvent {
  readonly chain: string
  readonly seq: number
  readonly at: string
  readonly kind: string
  readonly node: string | null
  readonly session: string | null
  readonly actor: string
  readonly source: string | null
  readonly detail: string
  readonly prevHash: string
  readonly hash: string
}

/** The hash before a chain's first event. */
export const genesisHash = '0'.repeat(64)

/** The chain that an event about this node belongs to. */
export function nodeChain(nodeName: string): string {
  return `node/${nodeName}`
}

/** The chain of events about no single node. */
export const systemChain = 'system'

/** The bounded chain of requests that name no known node. */
export const unknownChain = 'unknown'

/** The chain that an event belongs to where no other is named. */
export function chainOf({ node }: Pick<EventFacts, 'node'>): string {
  return node === null ? systemChain : nodeChain(node)
}

/** An event as it is put behind another, the `before`, in its chain. `kind` is of the table, unlike what is read back. */
export function chainEvent(
  facts: EventFacts,
  chain: string,
  before: Pick<ChainedEvent, 'seq' | 'hash'>,
): ChainedEvent & { readonly kind: EventKind } {
  const event = {
    chain,
    seq: before.seq + 1,
    at: facts.at.toISOString(),
    kind: facts.kind,
    node: facts.node,
    session: facts.session,
    actor: facts.actor,
    source: facts.source,
    detail: canonicalJson(facts.detail),
    prevHash: before.hash,
  }
  return { ...event, hash: hashEvent(event) }
}

/** SHA-256 over every field but the hash itself, as one JSON array: no two events share an encoding. */
export function hashEvent(event: Omit<ChainedEvent, 'hash'>): string {
  const fields = [
    'pawl.event/v1',
    event.chain,
    event.seq,
    event.at,
    event.kind,
    event.node,
    event.session,
    event.actor,
    event.source,
    event.detail,
    event.prevHash,
  ]
  return hash('sha256', JSON.stringify(fields), 'hex')
}

/** What can be wrong with a chain; the last five are found against a checkpoint only. */
export const chainFaults = [
  'missing',
  'edited',
  'out of order',
  'cut off',
  'removed',
  'trimmed too early',
  'trimmed without a word',
  'trimmed without a signature',
  'trimmed under an unknown key',
] as const

/** What is wrong with a chain: the first event that does not fit, and how. */
export interface ChainFault {
  readonly chain: string
  readonly seq: number
  readonly fault: (typeof chainFaults)[number]
}

/** One place in a chain. */
export interface ChainPosition {
  readonly chain: string
  readonly seq: number
}

/** Where a chain begins (what was pruned before it) and where it should end. */
export interface ChainEnds {
  readonly name: string
  readonly baseSeq: number
  readonly baseHash: string
  readonly headSeq: number
  readonly headHash: string
}
