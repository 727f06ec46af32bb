import { randomBytes } from 'node:crypto'
import type { BootContext } from '../../src/boot/context.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { openStorage } from '../../src/storage/database.ts'
import { openWebhookSender, type WebhookSender } from '../../src/webhooks/sender.ts'
import { testSettings } from '../helpers/world.ts'

/** What sending needs of a context, on a database that several processes share. */
export async function contextAt(location: string, clock: () => Date): Promise<BootContext> {
  const webhookAllowedNetworks = [{ address: '127.0.0.1', prefixLength: 32 }]
  return {
    storage: await openStorage(location),
    clock,
    randomBytes,
    settings: { ...testSettings, webhookAllowedNetworks },
    sealer: settingsSealer(Buffer.alloc(32, 7)),
  } as unknown as BootContext // nothing else of it is used by webhooks
}

/** A sender as a server runs it. */
export function senderOf(context: BootContext): WebhookSender {
  return openWebhookSender(context, {
    log: { error: (fault: unknown) => process.stderr.write(`${String(fault)}\n`) },
    send: { resolve: async () => ['127.0.0.1'] },
  })
}

// As a process of its own: sends until it is killed.
if (process.argv[1] === import.meta.filename) {
  const [, , location = '', at = ''] = process.argv
  const sender = senderOf(await contextAt(location, () => new Date(at)))
  setInterval(() => void sender.work(), 50)
}
