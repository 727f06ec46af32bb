import { type Facts, machineFactNames, machineFacts, macOf, uuidOf } from '../domain/facts.ts'
import type { Profile } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import type { Queries } from '../storage/database.ts'
import { putRefusedFacts, removeRefusedFacts } from '../storage/facts.ts'
import type { RefusedFactsRow } from '../storage/machine-tables.ts'
import { listMacs, lockNodeRow } from '../storage/nodes.ts'
import { findSession } from '../storage/sessions.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { readFacts } from './pin.ts'
import { type Asking, inTransaction, type Work } from './work.ts'

/**
 * What a machine tells of itself, against what is known of its node: what an operator registered, and what it told at its last
 * boot. A fact that was not known is no change. One that was told before and is not told now is a change where the profile says
 * `refuse`: else one request without facts would do away with what the next is compared with.
 */

const watched = machineFactNames
type Watched = (typeof watched)[number]

/**
 * Refuses a stick in the wrong machine: a registered UUID or serial number is never contradicted by a request. Where the
 * profile says `refuse`, neither are the facts of the boot before, nor registered MAC addresses. The event names where the node
 * booted from before, and where this machine is.
 */
export async function checkFacts(
  { tx }: Work,
  node: NodeRow,
  facts: Facts,
  policy: Profile['whenFactsChange'],
  source: string,
): Promise<void> {
  const uuid = uuidOf(facts)
  const wrong = [
    ...(node.uuid !== null && uuid !== undefined && uuid !== node.uuid ? ['uuid'] : []),
    ...(node.serial !== null && facts.serial !== undefined && facts.serial !== node.serial ? ['serial'] : []),
  ]
  const macs = policy === 'refuse' ? await macsToCompare(tx, node, facts) : []
  const changed =
    policy === 'refuse' ? [...changedFacts(node, facts, macs), ...withheldFacts(node, facts)] : []
  if (wrong.length === 0 && changed.length === 0) return
  const addresses = [await addressBefore(tx, node), source]
  if (wrong.length > 0)
    throw new Refusal('facts-contradict', { node: node.name, detail: { facts, wrong, addresses } })
  const detail = { changed, before: known(node, changed, macs), now: told(facts, changed), addresses }
  throw new Refusal('facts-changed', { node: node.name, detail })
}

/** Where the node booted from last; null where it never did. */
async function addressBefore(db: Queries, node: NodeRow): Promise<string | null> {
  const session = node.session === null ? undefined : await findSession(db, node.session)
  return session?.source ?? null
}

/** What the next boot is compared with: what is told now, and what was told before of what is not. */
export function factsToKeep(node: NodeRow, facts: Facts): Facts {
  return { ...machineFacts(lastFacts(node)), ...facts }
}

/** Records the facts that differ from the boot before; a MAC address that is registered is no news. */
export async function noteChangedFacts(
  work: Work,
  node: NodeRow,
  facts: Facts,
  source: string,
): Promise<void> {
  const macs = await macsToCompare(work.tx, node, facts)
  const changed = changedFacts(node, facts, macs)
  if (changed.length === 0) return
  await work.event({
    kind: 'facts-changed',
    node: node.name,
    session: null,
    actor: 'node',
    source,
    detail: {
      changed,
      before: known(node, changed, macs),
      now: told(facts, changed),
      addressBefore: await addressBefore(work.tx, node),
    },
  })
}

/** The MAC addresses that the node is registered with. A machine that tells the same as at its last boot is compared with none. */
async function macsToCompare(db: Queries, node: NodeRow, facts: Facts): Promise<readonly string[]> {
  return facts.mac === undefined || facts.mac === lastFacts(node).mac ? [] : listMacs(db, node.id)
}

function withheldFacts(node: NodeRow, facts: Facts): Watched[] {
  const before = lastFacts(node)
  return watched.filter((name) => facts[name] === undefined && before[name] !== undefined)
}

function changedFacts(node: NodeRow, facts: Facts, macs: readonly string[]): Watched[] {
  const before = lastFacts(node)
  return watched.filter((name) => {
    const told = facts[name]
    if (told === undefined || told === before[name]) return false
    if (name !== 'mac') return before[name] !== undefined && node[name] !== told
    const mac = macOf(facts)
    if (mac !== undefined && macs.includes(mac)) return false
    return before.mac !== undefined || macs.length > 0
  })
}

/** What was known of these facts; of MAC addresses all that are registered, where the machine has told none yet. */
function known(node: NodeRow, names: readonly Watched[], macs: readonly string[]): Record<string, unknown> {
  const before = lastFacts(node)
  return Object.fromEntries(names.map((name) => [name, before[name] ?? (name === 'mac' ? macs : null)]))
}

function lastFacts(node: NodeRow): Facts {
  return node.last_facts === null ? {} : readFacts(node.last_facts)
}

function told(facts: Facts, names: readonly Watched[]): Record<string, string | null> {
  return Object.fromEntries(names.map((name) => [name, facts[name] ?? null]))
}

/**
 * Keeps what a machine told that was refused for it, so that an operator may accept exactly that, and throws the refusal on.
 * One set for each node, the last: only who has proved to be the node comes so far.
 */
export async function keepRefusedFacts(
  context: BootContext,
  { source }: Asking,
  facts: Facts,
  error: unknown,
): Promise<never> {
  if (!(error instanceof Refusal) || (error.why !== 'facts-changed' && error.why !== 'facts-contradict'))
    throw error
  const { node: name } = error.subject
  await inTransaction(context, async ({ tx, now }) => {
    const node = name === undefined ? undefined : await lockNodeRow(tx, name)
    if (node === undefined) return
    await putRefusedFacts(tx, {
      node: node.id,
      facts: JSON.stringify(machineFacts(facts)),
      source,
      refused_at: now.toISOString(),
    })
  })
  throw error
}

/** A boot that is served has nothing left to accept. */
export async function forgetRefusedFacts({ tx }: Work, refused: RefusedFactsRow | undefined): Promise<void> {
  if (refused !== undefined) await removeRefusedFacts(tx, refused.node)
}
