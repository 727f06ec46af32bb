import { type ListedNode, listAll, type OperatorApi } from './api.ts'
import { nameOf } from './marks.ts'
import type { NodeResult, Step } from './plan.ts'

/** What the server says of the storm, beside what its clients say. */
export interface Truth {
  /** Nodes that are `ready` by the session that their client reported. */
  readonly ready: number
  /** Redemptions in the event log, each of another token. */
  readonly redemptions: number
  /** Answers that were given again under their key. */
  readonly repeated: number
  /** What does not fit; empty where all is well. At most so many words; `faultCount` counts all. */
  readonly faults: readonly string[]
  readonly faultCount: number
}

/** The events that say a token of a session was used, by the step whose answer says the same to the client. */
const kinds = {
  stage1: 'session-opened',
  handover: 'handover-opened',
  stage2: 'stage2-redeemed',
  stage3: 'stage3-redeemed',
  join: 'join-redeemed',
  report: 'session-ready',
} as const satisfies Partial<Record<Step, string>>

const maxFaults = 20

interface ListedEvent {
  readonly node: string | null
  readonly session: string | null
}

/**
 * Compares the server's record with what the clients were told: every node ready, no token used twice, nothing that was
 * acknowledged forgotten. `since` is a time before the storm by the server's clock.
 */
export async function checkTruth(
  api: OperatorApi,
  id: string,
  results: readonly NodeResult[],
  since: string,
): Promise<Truth> {
  const faults: string[] = []
  let redemptions = 0
  for (const [step, kind] of Object.entries(kinds) as [Step, string][]) {
    const used = await usesOf(api, id, kind, since)
    for (const [session, times] of used) {
      redemptions += times
      if (times > 1) faults.push(`session ${session}: ${kind} ${times} times`)
    }
    for (const { name, sessions } of results) {
      for (const { session, steps } of sessions)
        if (steps.includes(step) && !used.has(session))
          faults.push(`${name}: ${step} of session ${session} was answered, and the server has no ${kind}`)
    }
  }
  const nodes = new Map(
    (await listAll<ListedNode, string>(api, '/nodes', { match: `${nameOf(id)}-*` })).map((node) => [
      node.name,
      node,
    ]),
  )
  let ready = 0
  for (const result of results) {
    const node = nodes.get(result.name)
    if (node?.state === 'ready' && node.session?.id === result.session) ready += 1
    else if (node === undefined) faults.push(`${result.name}: the server does not have it any more`)
    else if (result.ready) faults.push(`${result.name}: reported success, and is ${node.state}`)
  }
  const repeated = await usesOf(api, id, 'answer-repeated', since)
  return {
    ready,
    redemptions,
    repeated: [...repeated.values()].reduce((sum, times) => sum + times, 0),
    faults: faults.slice(0, maxFaults),
    faultCount: faults.length,
  }
}

/** How often each session of the storm has such an event. */
async function usesOf(
  api: OperatorApi,
  id: string,
  kind: string,
  since: string,
): Promise<Map<string, number>> {
  const events = await listAll<ListedEvent, number>(api, '/events', { kind, since })
  const uses = new Map<string, number>()
  for (const { node, session } of events) {
    if (session === null || node?.startsWith(`${nameOf(id)}-`) !== true) continue
    uses.set(session, (uses.get(session) ?? 0) + 1)
  }
  return uses
}
