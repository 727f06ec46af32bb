import { type RuleRefusal, ruleRefusals } from '../domain/auto-approval.ts'
import type { EventView } from './answers.ts'
import { count } from './format.ts'

type Detail = EventView['detail']

/** What events about machines that come, and machines that are made anew in numbers, say of themselves. */
export const machineWords: Readonly<Record<string, (detail: Detail) => string>> = {
  'machine-rejected': (detail) =>
    `machine ${text(detail.code)} was turned away${detail.until === undefined ? '' : ` until ${text(detail.until)}`}`,
  'machine-auto-approved': (detail) =>
    `rule ${text(detail.rule)} made the machine at ${text(detail.machine)} a node`,
  'auto-approval-refused': (detail) => `no rule approved machine ${text(detail.code)}: ${why(detail.cause)}`,
  'auto-approval-created': (detail) =>
    `rule ${text(detail.rule)} takes ${count(Number(detail.limit), 'machine')} until ${text(detail.expiresAt)}`,
  'auto-approval-revoked': (detail) => `rule ${text(detail.rule)} was revoked`,
  'auto-approval-removed': (detail) => `rule ${text(detail.rule)} was removed`,
  'secret-expiring': (detail) =>
    `the enrolment secret ${text(detail.secret)} runs out at ${text(detail.expiresAt)}`,
  'secret-offered': (detail) => `a new enrolment secret was handed out, ${text(detail.secret)}`,
  'secret-written': (detail) => `the new enrolment secret ${text(detail.secret)} is on the boot medium`,
  'secret-not-written': (detail) =>
    `the new enrolment secret ${text(detail.secret)} is not on the boot medium: ${text(detail.reason)}`,
  'secret-rotated': (detail) =>
    `the enrolment secret is ${text(detail.secret)} now; ${text(detail.replaces)} opens nothing any more`,
  'secret-reused-after-rotation': (detail) =>
    `somebody came with an old enrolment secret: ${machines(detail.machines)}`,
  'two-machines': (detail) => `two machines at once: ${machines(detail.machines)}`,
  'machines-alternate': (detail) => `two machines in turn: ${machines(detail.machines)}`,
  'identity-key-registered': (detail) => `it registered its identity key ${text(detail.thumbprint)}`,
  'identity-issued': (detail) =>
    `it was given its first identity document for ${text(detail.audience)}, good until ${text(detail.until)}`,
  'identity-key-made': (detail) =>
    `key ${text(detail.kid)} was made, and signs identity documents from ${text(detail.signsFrom)} on`,
  'extension-answered': (detail) =>
    `extension ${text(detail.operation)} answered it: ${text(detail.status)}, ${count(Number(detail.bytes), 'byte')}`,
  'extension-failed': (detail) =>
    `extension ${text(detail.operation)} gave it no answer: ${text(detail.reason ?? detail.fault)}`,
  'facts-accepted': (detail) => `the machine's facts of ${text(detail.refusedAt)} were accepted`,
  'reinstall-expired': (detail) => `the reinstall mark ran out at ${text(detail.expiresAt)}`,
  'campaign-started': (detail) =>
    `reinstall ${text(detail.campaign)} of ${count(Number(detail.nodes), 'node')} began`,
  'campaign-paused': (detail) => `reinstall ${text(detail.campaign)} paused: ${text(detail.cause)}`,
  'campaign-resumed': (detail) => `reinstall ${text(detail.campaign)} goes on`,
  'campaign-cancelled': (detail) =>
    `reinstall ${text(detail.campaign)} was ended: ${count(Number(detail.cancelled), 'node')} taken out`,
  'campaign-completed': (detail) =>
    `reinstall ${text(detail.campaign)} is over: ${text(detail.done)} done, ${text(detail.failed)} failed`,
  'campaign-node-skipped': (detail) =>
    `its turn in reinstall ${text(detail.campaign)} came, and it was left out: ${text(detail.cause)}`,
}

/** Where each was, and what tells it from the other. */
function machines(seen: unknown): string {
  if (!Array.isArray(seen)) return 'unknown'
  const one = ({ address, facts }: { address?: unknown; facts?: Record<string, unknown> }): string => {
    const told = facts?.serial ?? facts?.uuid ?? facts?.mac
    return `${text(address)}${told === undefined ? '' : ` (${text(told)})`}`
  }
  return seen.map(one).join(' and ')
}

function why(cause: unknown): string {
  return typeof cause === 'string' && cause in ruleRefusals
    ? ruleRefusals[cause as RuleRefusal] // one of its keys
    : text(cause)
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : 'unknown'
}
