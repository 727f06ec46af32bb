import type { BootContext } from '../boot/context.ts'
import type { By } from '../fleet/change.ts'
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
  /**
   * The beginning of the answer, for admins only: many receivers repeat the URL that was asked, and its secrets, in whatever
   * spelling. Null for others.
   */
  readonly body: string | null
  readonly milliseconds: number
}

const shownCharacters = 1024

/**
 * Sends a message of type `ping`, once, signed like any other, to a disabled webhook too. Kept nowhere; what was answered
 * goes to who asked, the body of the answer to admins only. Throws `not-found`.
 */
export async function pingWebhook(
  context: BootContext,
  by: Pick<By, 'role'>,
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
  const answer = answerOf(outcome)
  return { webhook: name, ...answer, body: by.role === 'admin' ? answer.body : null }
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
