import type { EventView } from './answers.ts'

type Detail = EventView['detail']

/** What events about nodes that leave their cluster say of themselves. */
export const leaveWords: Readonly<Record<string, (detail: Detail) => string>> = {
  'leave-started': ({ hook, reboot, deadline }) =>
    `it began to leave its cluster, ${hook === 'kubernetes' ? 'drained by us' : 'asked of its hook'} until ${text(deadline)} at most; ${reboot === 'webhook' ? 'its hook reboots it then' : 'to be rebooted by an operator then'}`,
  'leave-drained': ({ seconds }) =>
    `it has left its cluster after ${text(seconds)} s, and was marked for reinstall`,
  'leave-completed': ({ reboot }) =>
    reboot === 'webhook'
      ? 'it has left its cluster, and its hook has rebooted it'
      : 'it has left its cluster: reboot it now',
  'leave-failed': ({ before, cause, cordoned }) =>
    `${whatFailed[text(before)] ?? 'it did not leave its cluster'}: ${text(cause)}${cordoned === true ? '; nothing is scheduled to it' : ''}`,
  'leave-cancelled': ({ markTaken, uncordons }) =>
    `it stays in its cluster${markTaken === true ? '; its mark was taken back' : ''}${uncordons === true ? '; it is being made schedulable again' : ''}`,
  'cluster-node-removed': ({ found }) =>
    found === true
      ? 'its object was removed from its cluster'
      : 'its cluster had no object of it to be removed',
}

const whatFailed: Readonly<Record<string, string>> = {
  marked: 'it is marked, and was not rebooted',
  rebooting: 'it is marked, and was not rebooted',
  cancelling: 'it was not made schedulable again',
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : 'unknown'
}
