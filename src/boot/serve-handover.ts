import { Refusal } from '../domain/refusal.ts'
import { touchSession } from '../storage/sessions.ts'
import { consumeToken } from '../storage/tokens.ts'
import type { BootContext } from './context.ts'
import { atEntryOf } from './entry.ts'
import { firstHandover } from './handover.ts'
import { openToken } from './open-token.ts'
import { readFacts } from './pin.ts'
import { type Asking, inTransaction, recordingRefusals } from './work.ts'

/** Opens the handover, once: iPXE sends no Idempotency-Key, so where it is lost iPXE goes back to stage 1. */
export function serveHandover(
  context: BootContext,
  request: Asking & { token: string | undefined },
): Promise<string> {
  return recordingRefusals(context, request, () =>
    inTransaction(context, async (work) => {
      const opened = await openToken(work, request, request.token, { kind: 'handover' })
      const { node, session, pinned } = opened
      const image = pinned.images?.stage2
      const subject = { node: node.name, session: session.id }
      if (image === undefined) throw new Refusal('no-sequence', subject)
      if (!(await consumeToken(work.tx, opened.presented.id, opened.hash, work.now)))
        throw new Refusal('spent-token', subject)
      const handover = await firstHandover(
        atEntryOf(work, session),
        { node, session, facts: readFacts(session.facts) },
        image,
      )
      await touchSession(work.tx, session.id, work.now)
      await work.event({
        kind: 'handover-opened',
        node: node.name,
        session: session.id,
        actor: 'node',
        source: request.source,
        detail: {},
      })
      return JSON.stringify(handover)
    }),
  )
}
