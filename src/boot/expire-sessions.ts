import { lockNodeRow } from '../storage/nodes.ts'
import { findSession, listOverdue } from '../storage/sessions.ts'
import type { BootContext } from './context.ts'
import { expire, isOverdue } from './end-session.ts'
import { inTransaction } from './work.ts'

const batch = 100

/** Ends live sessions that are overdue, each in a transaction of its own, a hundred at most. Returns how many it looked at. */
export async function expireSessions(context: BootContext): Promise<number> {
  const now = context.clock()
  const { sessionIdleSeconds } = context.settings
  const idleSince = new Date(now.getTime() - sessionIdleSeconds * 1000)
  const overdue = await listOverdue(context.storage.db, idleSince, now, batch)
  for (const { id, nodeName } of overdue) {
    await inTransaction(context, async (work) => {
      const node = await lockNodeRow(work.tx, nodeName)
      const session = await findSession(work.tx, id)
      if (node === undefined || session === undefined || session.ended_at !== null) return
      if (isOverdue(session, work.now, sessionIdleSeconds)) await expire(work, node, session)
    })
  }
  return overdue.length
}
