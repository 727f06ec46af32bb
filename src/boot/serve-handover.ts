import { Refusal } from '../domain/refusal.ts'
import { writeRedemption } from '../storage/redemption.ts'
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
      const { token, node, session, pinned } = opened
      const image = pinned.images?.stage2
      const subject = { node: node.name, session: session.id }
      if (token.consumed_at !== null) throw new Refusal('spent-token', subject)
      if (image === undefined) throw new Refusal('no-sequence', subject)
      const handover = firstHandover(
        atEntryOf(work, session),
        { node, session, facts: readFacts(session.facts) },
        image,
      )
      const first = await writeRedemption(work.tx, {
        ...{ token: opened.presented.id, hash: opened.hash, session: session.id, now: work.now },
        ...{ answer: null, minted: work.minted.splice(0) },
      })
      if (!first) throw new Refusal('spent-token', subject)
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
