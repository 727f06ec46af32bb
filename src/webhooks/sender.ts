import type { Logger } from 'pino'
import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import type { WebhookDeliveryRow, WebhookRow } from '../storage/webhook-tables.ts'
import { claimDelivery, findWebhookById, listDue, listWebhooks } from '../storage/webhooks.ts'
import { recordOutcome, targetOf } from './deliver.ts'
import { fanOut } from './fan-out.ts'
import { type SendOptions, sendWebhook } from './send.ts'

/**
 * Sends what waits. Each webhook has a lane of its own with a few workers, so that a slow receiver holds up nobody but itself. A try
 * is taken in the database before it is made, for a minute: another process leaves it alone, and takes it when this one
 * was killed. So everything arrives at least once, and sometimes twice.
 */
export interface WebhookSender {
  /** Makes deliveries of new events, and starts to send what is due; does not wait for receivers. */
  work(): Promise<void>
  /** Resolves when nothing is being sent. */
  idle(): Promise<void>
  /** Starts nothing new, and waits for what is being sent: at most a send's timeout. */
  close(): Promise<void>
}

/** What a sender needs beside the context. */
export interface SenderOptions {
  readonly log: Pick<Logger, 'error'>
  /** For tests: how names are resolved, and how long an answer may take. */
  readonly send?: Omit<SendOptions, 'allowed'>
}

/** Connections to one receiver at a time; a receiver that fails is tried by one. */
const workersPerWebhook = 4
const failuresUntilCareful = 5
/** Longer than a send can take: a try that is taken is over by then, or its process is gone. */
const leaseSeconds = 60
const dueAtOnce = 50

interface Lane {
  readonly queue: WebhookDeliveryRow[]
  /** Work was asked for: who finds none looks once more, since he may have looked before there was any. */
  asked: boolean
  refilling: Promise<void> | undefined
  readonly workers: Set<Promise<void>>
}

/** Opens a sender; `work` is called every second. */
export function openWebhookSender(context: BootContext, options: SenderOptions): WebhookSender {
  const { db } = context.storage
  const sendOptions = { ...options.send, allowed: context.settings.webhookAllowedNetworks }
  const lanes = new Map<string, Lane>()
  let making: Promise<void> | undefined
  let closing = false

  async function work(): Promise<void> {
    if (closing) return
    making ??= fanOut(context).finally(() => {
      making = undefined
    })
    await making
    for (const webhook of await listWebhooks(db)) if (maySend(webhook)) start(webhook)
  }

  function maySend({ disabled, paused_until: until }: WebhookRow): boolean {
    return !closing && disabled === null && (until === null || until <= context.clock().toISOString())
  }

  function start({ id, failures }: WebhookRow): void {
    const lane = lanes.get(id) ?? { queue: [], asked: true, refilling: undefined, workers: new Set() }
    lanes.set(id, lane)
    lane.asked = true
    const wanted = failures >= failuresUntilCareful ? 1 : workersPerWebhook
    while (lane.workers.size < wanted) {
      const worker: Promise<void> = runWorker(id, lane)
        .catch((error: unknown) => options.log.error({ err: error }, 'sending webhooks failed'))
        .finally(() => {
          lane.workers.delete(worker)
          if (lane.workers.size === 0) lanes.delete(id)
        })
      lane.workers.add(worker)
    }
  }

  async function runWorker(id: string, lane: Lane): Promise<void> {
    for (;;) {
      const webhook = await findWebhookById(db, id)
      if (webhook === undefined || !maySend(webhook)) return
      if (webhook.failures >= failuresUntilCareful && lane.workers.size > 1) return
      const target = targetOf(context, webhook) // before a try is taken: with a wrong key none is spent
      const due = await nextDue(id, lane)
      if (due === undefined) return
      const now = context.clock()
      // Another process has it, or the webhook was disabled or paused meanwhile: that is looked at again.
      if (!(await claimDelivery(db, due, now, addSeconds(now, leaseSeconds)))) continue
      const delivery = { ...due, tries: due.tries + 1 }
      const message = { id: delivery.id, body: delivery.body, now: context.clock() }
      const outcome = await sendWebhook(target, message, sendOptions)
      await recordOutcome(context, webhook, delivery, outcome)
    }
  }

  async function nextDue(id: string, lane: Lane): Promise<WebhookDeliveryRow | undefined> {
    let looked = false
    while (lane.queue.length === 0 && !closing && (!looked || lane.asked)) {
      lane.refilling ??= refill(id, lane)
      await lane.refilling
      looked = true
    }
    return closing ? undefined : lane.queue.shift()
  }

  async function refill(id: string, lane: Lane): Promise<void> {
    lane.asked = false
    try {
      lane.queue.push(...(await listDue(db, id, context.clock(), dueAtOnce)))
    } finally {
      lane.refilling = undefined
    }
  }

  async function idle(): Promise<void> {
    while (lanes.size > 0) await Promise.all([...lanes.values()].flatMap(({ workers }) => [...workers]))
  }

  return {
    work,
    idle,
    close: async () => {
      closing = true
      await making?.catch(() => {})
      await idle()
    },
  }
}
