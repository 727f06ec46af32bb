import type { BootContext } from '../boot/context.ts'
import { noSuchWebhook } from '../fleet/webhook-view.ts'
import { findWebhook } from '../storage/webhooks.ts'
import { targetOf } from './deliver.ts'
import { type SendOptions, type SendOutcome, sendWebhook } from './send.ts'

/** What came of a ping. */
export interface PingAnswer {
  readonly webhook: string
  /** Whether the receiver took it. */
  readonly ok: boolean
  /** Null where there was no answer; `reason` says why. */
  readonly status: number | null
  readonly reason: string | null
  /** The beginning of the answer. */
  readonly body: string
  readonly milliseconds: number
}

const shownCharacters = 1024

/**
 * Sends a message of type `ping`, once, signed like any other, to a disabled webhook too. Kept nowhere; what was answered
 * goes to who asked. Throws `not-found`.
 */
export async function pingWebhook(
  context: BootContext,
  name: string,
  options: Omit<SendOptions, 'allowed'> = {},
): Promise<PingAnswer> {
  const row = await findWebhook(context.storage.db, name)
  if (row === undefined) throw noSuchWebhook(name)
  const now = context.clock()
  const id = `msg_${Buffer.from(context.randomBytes(17)).toString('base64url').slice(0, 22)}`
  const data = { webhook: name }
  const body = JSON.stringify({ type: 'ping', timestamp: now.toISOString(), version: 1, data })
  const outcome = await sendWebhook(
    targetOf(context, row),
    { id, body, now },
    { ...options, allowed: context.settings.webhookAllowedNetworks },
  )
  return { webhook: name, ...answerOf(outcome) }
}

function answerOf(outcome: SendOutcome): Omit<PingAnswer, 'webhook'> {
  const { milliseconds } = outcome
  if (outcome.kind === 'failed')
    return { ok: false, status: null, reason: outcome.reason, body: '', milliseconds }
  const { status, body } = outcome
  const ok = status >= 200 && status < 300
  const reason = status >= 300 && status < 400 ? 'redirects are not followed' : null
  return { ok, status, reason, body: body.slice(0, shownCharacters), milliseconds }
}
