import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { listOldSessions, type OldSession, removeOldSessions } from '../storage/session-retention.ts'

/** So many sessions in one transaction: a boot that waits for it waits milliseconds. */
const batch = 50

/**
 * Removes boot sessions that ended more than `days` ago, with what is told of them: all but the last boot of each node, and the last of it that
 * ended in each way, by which it is known when a node was ready last. Each batch is a transaction of its own, so that it can be cut
 * off anywhere. Events are not touched: they have their own setting, and no chain has a gap by this. Returns how many went.
 */
export async function forgetOldSessions(context: BootContext, days: number): Promise<number> {
  if (days === 0) return 0
  const cutoff = addSeconds(context.clock(), -days * 86_400).toISOString()
  let removed = 0
  let after: OldSession | undefined
  for (;;) {
    const found = await listOldSessions(context.storage.db, { cutoff, after, limit: batch })
    if (found.length === 0) return removed
    after = found.at(-1)
    // Those that stay are met each time: for them nothing is written.
    const due = found.filter(({ stays, told }) => !stays || told)
    if (due.length > 0) removed += await context.storage.transaction((tx) => removeOldSessions(tx, due))
    await new Promise((resolve) => setImmediate(resolve)) // boots go first
  }
}
