import type { EventKind } from '../../src/domain/event.ts'

/**
 * What an event must say that an operator's change writes: what was before and what is after. `before` and `after` name the
 * keys of its `detail` that say it; `nothing` is what a new thing was before, and what a removed one is after; `kind` is a
 * state that the kind itself names (enabled: it was disabled). `about` names what it is about, where that is no node.
 */
export interface Told {
  readonly before: readonly string[] | 'nothing' | 'kind'
  readonly after: readonly string[] | 'nothing' | 'kind'
  readonly about?: readonly string[]
}

const made = (...after: string[]): Told => ({ before: 'nothing', after })
const gone = (...before: string[]): Told => ({ before, after: 'nothing' })
const changed: Told = { before: ['before'], after: ['after'] }
const turned = (...about: string[]): Told => ({ before: 'kind', after: 'kind', about })

/** Every kind that an operator's change writes. A kind of yours that is missing here fails the test of this table. */
export const operatorEvents: Readonly<Partial<Record<EventKind, Told>>> = {
  'node-added': made('addresses', 'macs', 'profile', 'labels'),
  'node-changed': changed,
  'node-removed': gone('addresses', 'macs', 'profile', 'labels', 'state'),
  'node-disabled': { before: ['before'], after: 'kind' },
  'node-enabled': turned(),
  'node-armed': { before: ['state'], after: 'kind' },
  'secret-issued': { before: ['replaces'], after: ['id'] },
  'secret-revoked': gone('id'),
  'node-certificate-issued': made('fingerprint', 'keyType', 'expiresAt'),
  'node-certificate-revoked': gone('fingerprint', 'keyType', 'expiresAt'),
  'reinstall-marked': { before: ['before'], after: 'kind' },
  'reinstall-cancelled': { before: ['before'], after: 'kind' },
  'leave-started': made('id', 'profile', 'hook', 'reboot'),
  'leave-cancelled': { before: ['before'], after: 'kind', about: ['id'] },
  'cluster-node-removed': gone('found'),
  'campaign-started': made('campaign', 'selection', 'nodes'),
  'campaign-paused': turned('campaign'),
  'campaign-resumed': turned('campaign'),
  'campaign-cancelled': turned('campaign', 'cancelled'),
  'profile-applied': { ...changed, about: ['profile', 'revision'] },
  'profile-removed': { before: ['before'], after: 'nothing', about: ['profile'] },
  'fleet-applied': { before: 'kind', after: 'kind' },
  'image-published': made('image', 'digest'),
  'image-signed': made('image', 'publisher', 'fingerprint'),
  'publisher-registered': made('publisher', 'fingerprint', 'subject', 'expiresAt'),
  'publisher-revoked': gone('publisher', 'fingerprint'),
  'root-rotated': changed,
  'root-cut-over': changed,
  'operator-created': made('id', 'name', 'role', 'expiresAt', 'scope'),
  'operator-revoked': gone('id', 'name', 'role'),
  'extension-applied': { ...changed, about: ['operation', 'revision'] },
  'extension-removed': { ...changed, about: ['operation'] },
  'extension-key-made': { before: ['replaces'], after: ['kid'], about: ['signsFrom'] },
  'identity-key-made': changed,
  'identity-keys-withdrawn': changed,
  'image-tested': made('image', 'passed'),
  'images-pruned': gone('count', 'versions'),
  'channel-moved': { before: ['before'], after: ['version'], about: ['channel', 'how'] },
  'channel-protected': { ...changed, about: ['channel'] },
  'channel-removed': { before: ['before'], after: 'nothing', about: ['channel'] },
  'change-proposed': made('id', 'kind', 'subject'),
  'change-approved': turned('id', 'kind', 'subject', 'proposedBy'),
  'change-rejected': turned('id', 'kind', 'subject', 'proposedBy'),
  'rollout-started': { before: ['before'], after: ['version', 'plan'], about: ['rollout', 'channel'] },
  'rollout-advanced': turned('rollout', 'channel'),
  'rollout-paused': turned('rollout', 'channel'),
  'rollout-resumed': turned('rollout', 'channel'),
  'rollout-aborted': turned('rollout', 'channel'),
  'machine-approved': made('code', 'facts'),
  'machine-rejected': made('code', 'facts'),
  'auto-approval-created': made('rule', 'sources', 'profile', 'serials'),
  'auto-approval-revoked': turned('rule'),
  'auto-approval-removed': gone('rule', 'state'),
  'facts-accepted': made('changes'),
  // Disabling or removing a node ends its boot.
  'session-failed': { before: ['stage'], after: 'kind', about: ['cause'] },
  // Restoring a backup ends the boots that are open in it.
  'session-expired': { before: ['stage'], after: 'kind', about: ['cause'] },
  'webhook-created': { ...changed, about: ['webhook'] },
  'webhook-changed': { ...changed, about: ['webhook'] },
  'webhook-removed': { ...changed, about: ['webhook'] },
  'webhook-enabled': turned('webhook'),
  'webhook-disabled': turned('webhook', 'cause'),
  'webhook-secret-rotated': turned('webhook'),
  'webhook-redelivered': turned('webhook'),
  'certificate-issued': made('name', 'role', 'expiresAt'),
  'certificate-revoked': gone('name', 'role'),
  // The person's name is on it where the provider vouched for one.
  'sign-in-refused': made('cause'),
  'signed-in': { before: 'nothing', after: 'kind' },
  'signed-out': { before: 'kind', after: 'nothing' },
  'sign-in-ended': { before: 'kind', after: 'nothing' },
  'login-approved': { before: 'kind', after: 'kind' },
  'login-denied': { before: 'kind', after: 'kind' },
  'backup-made': { before: 'nothing', after: 'kind' },
  restored: { before: 'kind', after: 'kind' },
  'database-downgraded': { before: 'kind', after: 'kind' },
  'database-moved': { before: 'kind', after: 'kind' },
  'checkpoint-signed': { before: ['before'], after: ['seq', 'digest'] },
  'checkpoint-key-replaced': changed,
}

/** The kinds that machines cause, or the server by itself: no operator's name is on them. */
export const otherEvents: readonly EventKind[] = [
  ...(['leave-drained', 'leave-completed', 'leave-failed'] as const),
  ...(['node-held', 'reinstall-expired', 'campaign-completed', 'campaign-node-skipped'] as const),
  ...([
    'operator-refused',
    'webhook-events-lost',
    'webhook-failing',
    'rollout-halted',
    'rollout-completed',
  ] as const),
  ...([
    'secret-expiring',
    'secret-offered',
    'secret-written',
    'secret-not-written',
    'secret-rotated',
    'secret-reused-after-rotation',
  ] as const),
  ...(['two-machines', 'machines-alternate'] as const),
  ...(['machine-pending', 'machine-auto-approved', 'auto-approval-refused'] as const),
  ...(['session-opened', 'session-superseded', 'session-ready'] as const),
  ...(['booted-local', 'asked-while-held', 'handover-opened', 'stage2-redeemed', 'stage3-redeemed'] as const),
  ...([
    'download-redirected',
    'join-redeemed',
    'credential-made',
    'credential-refused',
    'credential-removed',
    'credential-not-removed',
    'answer-repeated',
    'attempt-failed',
    'reported-late',
  ] as const),
  ...(['extension-answered', 'extension-failed', 'seed-served'] as const),
  ...(['identity-key-registered', 'identity-issued'] as const),
  ...(['address-changed', 'facts-changed', 'too-many-boots', 'refused', 'refusals-counted'] as const),
  ...(['handshake-failed', 'checkpoint-refused', 'events-trimmed'] as const),
  ...(['overload-began', 'overload-ended'] as const),
  ...(['node-looping', 'boot-slow', 'boot-stuck'] as const),
]

/** What an operator's event does not say that it must. */
export function untold(kind: string, detail: Readonly<Record<string, unknown>>): string[] {
  const told = operatorEvents[kind as EventKind]
  if (told === undefined) return [`a row for ${kind} in test/helpers/operator-events.ts`]
  const keys = [told.before, told.after, told.about ?? []].flatMap((part) =>
    typeof part === 'string' ? [] : part,
  )
  return keys.filter((key) => detail[key] === undefined)
}
