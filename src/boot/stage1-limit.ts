import { addSeconds } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import { countSessionsSince } from '../storage/sessions.ts'
import type { Work } from './work.ts'

/** The limit on stage 1s an hour. The pause asked for doubles with each time that many in a day, up to ten minutes. */
export async function limitStage1s(work: Work, node: NodeRecord, source: string): Promise<void> {
  const limit = work.context.settings.maxStage1PerHour
  const inHour = await countSessionsSince(work.tx, node.id, addSeconds(work.now, -3600))
  if (inHour < limit) return
  const inDay = await countSessionsSince(work.tx, node.id, addSeconds(work.now, -86_400))
  work.context.refusals.record({
    kind: 'too-many-boots',
    cause: 'too-many-boots',
    node: node.name,
    session: null,
    source,
    detail: { inHour, inDay, limit },
  })
  throw new PawlError(
    'too-many-boots',
    `node ${node.name} asked for stage 1 more than ${limit} times in an hour`,
    {
      hint: 'look at its timeline: it does not get through its boot',
      retryAfterSeconds: Math.min(600, 30 * 2 ** Math.min(5, Math.floor(inDay / limit) - 1)),
    },
  )
}
