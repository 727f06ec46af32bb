import type { BootContext } from '../boot/context.ts'
import type { HookCall } from '../domain/leave.ts'
import { deliveryId } from '../domain/webhook.ts'
import { readLabels, writeAddress } from '../fleet/node-view.ts'
import type { LeavingRow } from '../storage/leaving-tables.ts'
import { isUnchanged } from '../storage/leavings.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import { sendWebhook } from '../webhooks/send.ts'
import type { StepOutcome } from './outcome.ts'

const pauseSeconds = 10
const longestPauseSeconds = 300

/**
 * Calls a hook, once. It is one message with one `webhook-id` however often it is sent, so that a receiver does the work once: 2xx is done,
 * 202 is not yet, no answer, 429 and 5xx are for another try, and anything else is a no. It is not sent when the row was changed meanwhile: a
 * machine whose mark was taken back is not to be rebooted.
 */
export async function hookStep(
  context: BootContext,
  row: LeavingRow,
  node: NodeRecord,
  { kind, hook }: { readonly kind: 'leave' | 'reboot'; readonly hook: HookCall },
): Promise<StepOutcome> {
  const body = JSON.stringify({
    type: kind,
    timestamp: row.started_at,
    data: {
      id: row.id,
      node: row.name,
      profile: row.profile,
      startedBy: row.started_by,
      addresses: node.addresses.map(writeAddress),
      macs: node.macs,
      uuid: node.uuid,
      serial: node.serial,
      labels: readLabels(node.labels),
    },
  })
  if (!(await isUnchanged(context.storage.db, row))) return { kind: 'overtaken' }
  const outcome = await sendWebhook(
    { url: new URL(hook.url), ca: hook.ca ?? null, secrets: [hook.secret] },
    { id: deliveryId(row.id, kind), body, now: context.clock() },
    { allowed: context.settings.webhookAllowedNetworks },
  )
  if (outcome.kind === 'failed')
    return { kind: 'waits', waitsFor: `the ${kind} hook: ${outcome.reason}`, seconds: pauseSeconds }
  const { status, retryAfterSeconds } = outcome
  if (status !== 202 && status >= 200 && status < 300) return { kind: 'done' }
  const said = `the ${kind} hook answered ${status}`
  const seconds = Math.min(retryAfterSeconds ?? pauseSeconds, longestPauseSeconds)
  if (status === 202)
    return { kind: 'waits', waitsFor: `the ${kind} hook to be done: it answered 202`, seconds }
  if (status === 429 || status >= 500) return { kind: 'waits', waitsFor: said, seconds }
  return {
    kind: 'failed',
    cause: status >= 300 && status < 400 ? `${said}: redirects are not followed` : said,
  }
}
