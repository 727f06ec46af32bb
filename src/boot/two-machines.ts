import { addSeconds } from '../domain/clock.ts'
import { type Facts, machineFacts, sameMachine } from '../domain/facts.ts'
import { Refusal } from '../domain/refusal.ts'
import type { RefusedFactsRow } from '../storage/machine-tables.ts'
import { findLiveSession, listSessionsSince, type SessionOpened } from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import { endSession, expire, isOverdue, repeatedCause } from './end-session.ts'
import { readFacts } from './pin.ts'
import type { Work } from './work.ts'

/**
 * Two machines with one node's medium. At the same time, the second is refused and the first goes on undisturbed. In turn, each
 * is served as its profile says (`whenFactsChange`), and somebody is called: a board that was swapped does not come back, a
 * copied medium does.
 */

/** One machine, as events name it. */
interface Seen {
  readonly address: string
  readonly at: string
  readonly facts: Facts
}

/** Retires the session before this one. Another machine's live session is left alone, and this request refused. */
export async function retireLiveSession(
  work: Work,
  node: NodeRow,
  facts: Facts,
  source: string,
): Promise<NodeRow> {
  const { settings } = work.context
  const live = await findLiveSession(work.tx, node.id)
  if (live === undefined) return node
  if (isOverdue(live, work.now, settings.sessionIdleSeconds)) return expire(work, node, live)
  const before = readFacts(live.facts)
  // From elsewhere, and telling nothing of itself, where the other did: a copy must not get by with keeping silent.
  const isSilent = source !== live.source && tellsMachine(before) && !tellsMachine(facts)
  if (isSilent || !sameMachine(before, facts)) throw twoMachines(work, node, live, { facts, source })
  const repeat =
    live.state === 'stage1' &&
    live.source === source &&
    before.mac === facts.mac &&
    before.uuid === facts.uuid &&
    work.now.getTime() - Date.parse(live.started_at) <= settings.repeatStage1Seconds * 1000
  return endSession(work, node, live, {
    how: 'supersede',
    cause: repeat ? repeatedCause : 'a later stage 1',
    actor: 'node',
    source,
    repeat,
  })
}

function tellsMachine(facts: Facts): boolean {
  return Object.keys(machineFacts(facts)).length > 0
}

function twoMachines(
  { now }: Work,
  node: NodeRow,
  live: SessionRow,
  second: { readonly facts: Facts; readonly source: string },
): Refusal {
  const before = readFacts(live.facts)
  const machines = [
    { ...seenIn(live), session: live.id },
    { address: second.source, at: now.toISOString(), facts: machineFacts(second.facts), session: null },
  ]
  return new Refusal('two-machines', {
    node: node.name,
    session: live.id,
    detail: { addresses: [live.source, second.source], facts: [before, second.facts] },
    alarm: { kind: 'two-machines', detail: { machines } },
  })
}

/**
 * Calls somebody where this machine was here before the one that was here last, all within the time of the setting. One that was
 * `refused` for its facts counts as having been here.
 */
export async function noteAlternation(
  work: Work,
  node: NodeRow,
  { facts, source }: { readonly facts: Facts; readonly source: string },
  refused: RefusedFactsRow | undefined,
): Promise<void> {
  const { tx, now, context } = work
  const since = addSeconds(now, -context.settings.alternatingMachinesSeconds)
  const sessions = await listSessionsSince(tx, node.id, since)
  const seen: Seen[] = sessions.map(seenIn)
  if (refused !== undefined && refused.refused_at > since.toISOString())
    seen.push({ address: refused.source, at: refused.refused_at, facts: readFacts(refused.facts) })
  const [last, ...before] = seen.toSorted((a, b) => (a.at > b.at ? -1 : 1))
  if (last === undefined || sameMachine(last.facts, facts)) return
  const earlier = before.find((other) => sameMachine(other.facts, facts))
  if (earlier === undefined) return
  await work.event({
    kind: 'machines-alternate',
    node: node.name,
    session: null,
    actor: 'node',
    source,
    detail: {
      machines: [last, { address: source, at: now.toISOString(), facts: machineFacts(facts) }],
      before: earlier.at,
    },
  })
}

function seenIn(session: SessionOpened): Seen {
  return {
    address: session.source,
    at: session.started_at,
    facts: machineFacts(readFacts(session.facts)),
  }
}
