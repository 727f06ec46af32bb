import { eventKinds } from '../domain/event.ts'
import { refusalCauses } from '../domain/refusal.ts'
import type { EventView } from './answers.ts'
import { count } from './format.ts'
import { leaveWords } from './leave-event-words.ts'
import { machineWords } from './machine-event-words.ts'

type Detail = EventView['detail']

/** What these kinds say of themselves beyond their name. Others show their details as they are. */
const words: Readonly<Record<string, (detail: Detail) => string>> = {
  ...machineWords,
  ...leaveWords,
  refused: (detail) =>
    `refused${stageOf(detail.request)}: ${detail.cause === 'identity-proof' ? `no good proof of possession: ${text(detail.reason)}` : causeOf(detail.cause)}${detail.image === undefined ? '' : ` (${text(detail.image)})`}${detail.cause === 'does-not-fit' ? because(detail.reason) : ''}`,
  'refusals-counted': (detail) => `${count(Number(detail.count), 'more refusal')}: ${causeOf(detail.cause)}`,
  'attempt-failed': (detail) => `the node reported${stageOf(detail.stage)}: ${text(detail.message)}`,
  'answer-repeated': (detail) => `the answer${stageOf(detail.stage)} was lost, and given again under its key`,
  'session-failed': (detail) => `the session failed${stageOf(detail.stage)}: ${text(detail.cause)}`,
  'session-expired': (detail) => `the session expired: ${text(detail.cause)}`,
  'session-superseded': (detail) =>
    detail.repeat === true
      ? 'stage 1 was asked again at once: a second NIC, or a lost answer'
      : 'a later stage 1 retired the session',
  'credential-made': (detail) => `the cluster made a join credential, good until ${text(detail.expiresAt)}`,
  'credential-refused': (detail) => `the join waits: ${text(detail.message)}`,
  'credential-removed': (detail) =>
    `the join credential is gone from its cluster${detail.unseen === true ? ', which made it though its call came to nothing' : ''}${detail.because === undefined ? '' : `: ${text(detail.because)}`}`,
  'credential-not-removed': (detail) =>
    `the join credential is still at its cluster, and tried again: ${text(detail.message)}`,
  'reported-late': (detail) => `a report came after the session was over: ${text(detail.message)}`,
  'too-many-boots': (detail) =>
    detail.retryAfterSeconds === undefined
      ? `stage 1 was asked ${text(detail.inHour)} times in an hour`
      : `it loops, and was told to come again in ${text(detail.retryAfterSeconds)} s`,
  'node-looping': (detail) =>
    detail.why === 'no-report'
      ? `it boots again and again: ${text(detail.unreported)} times without a report`
      : `it boots again and again: ${text(detail.inHour)} times in an hour`,
  'boot-slow': (detail) => late('slow', detail),
  'boot-stuck': (detail) => late('stuck', detail),
  'address-changed': (detail) => `the session went on from another address, it was ${text(detail.before)}`,
  'facts-changed': (detail) => `the machine's facts changed: ${list(detail.changed)}`,
  'node-held': (detail) => `held after ${count(Number(detail.attempts), 'failed reinstall')}`,
  'asked-while-held': () => 'asked for stage 1 while held',
  'handshake-failed': ({ client, reason, advice }) =>
    `TLS handshake failed${client === undefined ? '' : ` (like ${text(client)})`}: ${text(reason)}${advice === undefined ? '' : `; ${text(advice)}`}`,
  'node-changed': (detail) => `changed: ${list(Object.keys((detail.after as object | undefined) ?? {}))}`,
  'profile-applied': (detail) => `profile ${text(detail.profile)}, revision ${text(detail.revision)}`,
  'profile-removed': (detail) => `profile ${text(detail.profile)} was removed`,
  'channel-removed': (detail) => `channel ${text(detail.channel)} was removed, with its history`,
  'fleet-applied': (detail) => {
    const { added, changed, removed } = (detail.counts ?? {}) as Detail
    return `fleet files, set ${text(detail.set)}: ${text(added)} added, ${text(changed)} changed, ${text(removed)} removed`
  },
  'operator-created': (detail) =>
    `a token for ${text(detail.name)}, role ${text(detail.role)}${detail.scope == null ? '' : `, scope ${text(detail.scope)}`}`,
  'operator-refused': (detail) =>
    `${text(detail.cause).replaceAll('-', ' ')}${detail.name === undefined ? '' : ` of ${text(detail.name)}`} at ${text(detail.request)}`,
  'sign-in-refused': (detail) =>
    `sign-in refused: ${text(detail.cause).replaceAll('-', ' ')}${detail.reason === undefined ? '' : ` (${text(detail.reason)})`}`,
  'signed-in': (detail) => `signed in as ${text(detail.role)}`,
  'login-approved': (detail) => `let the command line at ${text(detail.from)} in`,
  'login-denied': (detail) => `turned the command line at ${text(detail.from)} down`,
  'sign-in-ended': (detail) => `${text(detail.name)} was signed out`,
  'certificate-issued': (detail) =>
    `a certificate for cert/${text(detail.name)}, role ${text(detail.role)}${detail.scope == null ? '' : `, scope ${text(detail.scope)}`}`,
  'certificate-revoked': (detail) =>
    `the certificate ${text(detail.id)} of cert/${text(detail.name)} was revoked`,
  'operator-revoked': (detail) => `the token ${text(detail.id)} of ${text(detail.name)} was revoked`,
  'channel-moved': (detail) =>
    `channel ${text(detail.channel)} ${detail.how === 'rollback' ? 'was rolled back' : 'moved'} from ${text(detail.before ?? 'none')} to ${text(detail.version)}${because(detail.why)}`,
  'channel-protected': (detail) => `the rules of channel ${text(detail.channel)} were changed`,
  'change-proposed': (detail) => `proposal ${text(detail.id)}: ${text(detail.kind)} ${text(detail.subject)}`,
  'change-approved': (detail) =>
    `proposal ${text(detail.id)} of ${text(detail.proposedBy).replace(/^operator:/, '')} was approved`,
  'change-rejected': (detail) => `proposal ${text(detail.id)} was turned down`,
  'rollout-started': (detail) =>
    `rollout of ${text(detail.version)} on ${text(detail.channel)} began${because(detail.why)}`,
  'rollout-advanced': (detail) =>
    `rollout on ${text(detail.channel)}: wave ${text(detail.wave)}, ${count(Number(detail.nodes), 'node')}`,
  'rollout-halted': (detail) =>
    `rollout on ${text(detail.channel)} halted, ${text(detail.servedAgain)} is served again: ${text(detail.cause)}`,
  'rollout-paused': (detail) => `rollout on ${text(detail.channel)} paused${because(detail.cause)}`,
  'rollout-resumed': (detail) => `rollout on ${text(detail.channel)} goes on`,
  'rollout-aborted': (detail) => `rollout of ${text(detail.version)} on ${text(detail.channel)} was ended`,
  'rollout-completed': (detail) =>
    `rollout done: channel ${text(detail.channel)} is at ${text(detail.version)}`,
  'images-pruned': (detail) => `${count(Number(detail.count), 'image version')} removed`,
  'image-tested': (detail) =>
    `${text(detail.image)} ${detail.passed === true ? 'passed' : 'failed'} its test`,
  'webhook-created': (detail) => `webhook ${text(detail.webhook)} was made${toUrl(detail.after)}`,
  'webhook-changed': (detail) => `webhook ${text(detail.webhook)} was changed${toUrl(detail.after)}`,
  'webhook-removed': (detail) => `webhook ${text(detail.webhook)} was removed`,
  'webhook-enabled': (detail) =>
    `webhook ${text(detail.webhook)} sends again${detail.fromNow === true ? ', from now on' : ''}`,
  'webhook-disabled': (detail) =>
    `webhook ${text(detail.webhook)} sends nothing more${detail.cause === 'gone' ? ': its receiver answered 410 Gone' : ''}`,
  'webhook-secret-rotated': (detail) => `webhook ${text(detail.webhook)} signs with a new secret`,
  'webhook-events-lost': (detail) =>
    `webhook ${text(detail.webhook)} never gets ${count(Number(detail.count), 'event')}: removed beyond their time`,
  'webhook-failing': (detail) =>
    `the receiver of webhook ${text(detail.webhook)} did not take an event: ${text(detail.result)}`,
  'webhook-redelivered': (detail) =>
    `deliveries of webhook ${text(detail.webhook)} are sent again: ${text(detail.count)}`,
  'image-published': (detail) => `image ${text(detail.image)}`,
  'image-signed': (detail) => `publisher ${text(detail.publisher)} signed image ${text(detail.image)}`,
  'publisher-registered': (detail) =>
    `publisher ${text(detail.publisher)} may sign images: ${text(detail.subject)}`,
  'checkpoint-signed': (detail) =>
    `checkpoint ${text(detail.seq)} was signed: ${count(Number(detail.events), 'event')} in ${count(Number(detail.chains), 'chain')}`,
  'checkpoint-refused': (detail) =>
    `no checkpoint was signed: ${count(Number(detail.chains), 'chain')} not as checkpoint ${text(detail.checkpoint)} has it`,
  'checkpoint-key-replaced': () => 'checkpoints are signed with another key from here on',
  'events-trimmed': (detail) =>
    `${count(Number(detail.events), 'event')} of ${count(Number(detail.chains), 'chain')} from before ${text(detail.cutoff)} were removed`,
  'publisher-revoked': (detail) => `publisher ${text(detail.publisher)} was revoked`,
}

/** The kinds that a timeline shows as problems. */
export const problemKinds: ReadonlySet<string> = new Set([
  'refused',
  'checkpoint-refused',
  'refusals-counted',
  'attempt-failed',
  'answer-repeated',
  'session-failed',
  'session-expired',
  'session-superseded',
  'reported-late',
  'too-many-boots',
  'node-looping',
  'boot-slow',
  'boot-stuck',
  'address-changed',
  'facts-changed',
  'secret-not-written',
  'secret-reused-after-rotation',
  'two-machines',
  'machines-alternate',
  'node-held',
  'leave-failed',
  'credential-refused',
  'credential-not-removed',
  'extension-failed',
  'handshake-failed',
  'rollout-halted',
  'auto-approval-refused',
  'operator-refused',
  'sign-in-refused',
  'asked-while-held',
  'webhook-events-lost',
  'webhook-failing',
])

/** An event in words, with where it came from or who did it. */
export function describeEvent(event: EventView): string {
  const said = Object.hasOwn(words, event.kind) ? words[event.kind]?.(event.detail) : undefined
  return `${said ?? meaningOf(event)}${origin(event)}`
}

function late(how: string, { stage, seconds, usualSeconds, reason }: Detail): string {
  const usual = typeof usualSeconds === 'number' ? `, usual are ${usualSeconds} s` : ''
  return `${how} at ${text(stage)} after ${text(seconds)} s${usual}: ${text(reason)}`
}

function toUrl(settings: unknown): string {
  const { url } = (settings ?? {}) as { readonly url?: unknown }
  return url === undefined ? '' : `, to ${text(url)}`
}

function because(why: unknown): string {
  return typeof why === 'string' && why !== '' ? `: ${why}` : ''
}

function meaningOf({ kind }: EventView): string {
  return Object.hasOwn(eventKinds, kind) ? eventKinds[kind as keyof typeof eventKinds] : kind
}

function origin({ actor, source }: EventView): string {
  if (actor.startsWith('operator:')) return ` (by ${actor.slice('operator:'.length)})`
  return source === null ? '' : ` (from ${source})`
}

function causeOf(cause: unknown): string {
  const name = text(cause)
  return Object.hasOwn(refusalCauses, name) ? refusalCauses[name as keyof typeof refusalCauses] : name
}

function stageOf(stage: unknown): string {
  return typeof stage === 'string' && stage !== '' ? ` at ${stage}` : ''
}

function list(values: unknown): string {
  return Array.isArray(values) && values.length > 0 ? values.map(text).join(', ') : 'nothing'
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? 'unknown')
}
