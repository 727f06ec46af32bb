import type { BootContext } from '../boot/context.ts'
import { readFacts } from '../boot/pin.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { type Facts, macOf, uuidOf } from '../domain/facts.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findRefusedFacts, removeRefusedFacts } from '../storage/facts.ts'
import type { RefusedFactsRow } from '../storage/machine-tables.ts'
import { findNode, type NodeRecord, updateNode } from '../storage/nodes.ts'
import { type By, type Change, change, noSuchNode } from './change.ts'
import { serialOf } from './enrolment.ts'
import {
  checkSettings,
  difference,
  type NodeSettings,
  settingsOf,
  warningsOf,
  withChanges,
  writeLists,
} from './node-settings.ts'
import { showNode } from './node-view.ts'
import { type ChangedNode, lock } from './nodes.ts'

/** One fact that a machine told and was refused for. */
export interface RefusedFact {
  readonly fact: 'uuid' | 'serial' | 'mac'
  /** What was registered, or told at the boot before; of MAC addresses all that are registered. */
  readonly before: string | null
  /** null: it is not told any more. */
  readonly now: string | null
}

/** The facts that a node was refused for last: exactly these can be accepted. */
export interface RefusedFactsView {
  readonly node: string
  readonly source: string
  readonly refusedAt: string
  readonly changes: readonly RefusedFact[]
}

/** What a node was refused for; throws `not-found` where it was for nothing. */
export async function showRefusedFacts(db: Queries, name: string): Promise<RefusedFactsView> {
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  return viewOf(node, await refusedOf(db, node))
}

/**
 * Accepts the facts that a node was refused for, as they were at `refusedAt`: what is registered and differs is replaced, a MAC
 * address is added, and the next boot is compared with them. What was not told any more is forgotten. Throws `conflict` where the machine has told others since.
 */
export function acceptFacts(
  context: BootContext,
  by: By,
  name: string,
  refusedAt: string,
): Promise<ChangedNode> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const row = await refusedOf(change.tx, node)
    if (row.refused_at !== refusedAt) {
      throw new PawlError('conflict', `node "${name}" was refused again at ${row.refused_at}`, {
        hint: `look at what it told then: pawl node accept-facts ${name}`,
      })
    }
    const told = readFacts(row.facts)
    const settings = await register(change, node, told)
    const { changes } = viewOf(node, row)
    await updateNode(change.tx, node.id, {
      last_facts: canonicalJson({ ...withoutWatched(lastFacts(node)), ...told }),
      updated_at: change.now.toISOString(),
    })
    await removeRefusedFacts(change.tx, node.id)
    await change.note('facts-accepted', name, { changes, machine: row.source, refusedAt })
    return { node: await showNode(change.tx, name), warnings: await warningsOf(change, node, settings) }
  })
}

/** Only what an operator had registered is registered anew: where nothing was, nothing is from now on. */
async function register(change: Change, node: NodeRecord, told: Facts): Promise<NodeSettings> {
  const before = settingsOf(node)
  const mac = macOf(told)
  const after = withChanges(before, {
    ...(before.uuid === null || uuidOf(told) === undefined ? {} : { uuid: uuidOf(told) ?? null }),
    ...(before.serial === null || serialOf(told) === null ? {} : { serial: serialOf(told) }),
    ...(before.macs.length === 0 || mac === undefined ? {} : { macs: [...before.macs, mac] }),
  })
  const changed = difference(before, after)
  if (changed === undefined) return after
  await checkSettings(change, node.name, after)
  await updateNode(change.tx, node.id, { uuid: after.uuid, serial: after.serial })
  await writeLists(change, node.id, after)
  await change.note('node-changed', node.name, changed)
  return after
}

async function refusedOf(db: Queries, node: NodeRecord): Promise<RefusedFactsRow> {
  const row = await findRefusedFacts(db, node.id)
  if (row !== undefined) return row
  throw new PawlError('not-found', `node "${node.name}" is not refused for facts that changed`, {
    hint: `what it is refused for, if it is: pawl event list --node ${node.name} --kind refused`,
  })
}

function viewOf(node: NodeRecord, row: RefusedFactsRow): RefusedFactsView {
  const told = readFacts(row.facts)
  const last = lastFacts(node)
  const before: Facts = {
    ...last,
    ...(node.uuid === null ? {} : { uuid: node.uuid }),
    ...(node.serial === null ? {} : { serial: node.serial }),
    ...(node.macs.length === 0 ? {} : { mac: node.macs.join(', ') }),
  }
  const changes = (['uuid', 'serial', 'mac'] as const).flatMap((fact): RefusedFact[] => {
    const now = told[fact]
    if (now === undefined) return last[fact] === undefined ? [] : [{ fact, before: last[fact], now: null }]
    const same = now === before[fact] || (fact === 'mac' && node.macs.includes(now))
    return same ? [] : [{ fact, before: before[fact] ?? null, now }]
  })
  return { node: node.name, source: row.source, refusedAt: row.refused_at, changes }
}

function withoutWatched({ uuid: _uuid, serial: _serial, mac: _mac, ...others }: Facts): Facts {
  return others
}

function lastFacts(node: NodeRecord): Facts {
  return node.last_facts === null ? {} : readFacts(node.last_facts)
}
