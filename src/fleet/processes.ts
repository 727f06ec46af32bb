import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import type { Heartbeat, ProcessLoad, ServerClaim, WaitingNode } from '../domain/load.ts'
import type { Queries } from '../storage/database.ts'
import { appendEvent } from '../storage/events.ts'
import type { ProcessRow } from '../storage/process-tables.ts'
import {
  findLabels,
  forgetProcess,
  forgetProcesses,
  listProcesses,
  saveProcess,
} from '../storage/processes.ts'

/** Who has said nothing for so long is gone: a process says something every three seconds. */
export const goneSeconds = 20
const maxStatsBytes = 60_000
const maxNamesAtOnce = 500
const siteLabel = 'site'

/** A process of the server, with what it has to do. */
export interface ProcessView {
  readonly id: string
  readonly host: string
  readonly pid: number
  readonly role: string
  readonly startedAt: string
  readonly seenAt: string
  readonly load: ProcessLoad
}

/**
 * Takes down what a process says of itself, forgets those that say nothing any more, and answers which sites the nodes are of
 * that it asks about. The beginning and the end of an overload are one event each.
 */
export async function takeHeartbeat(
  context: BootContext,
  { process: teller, load, server, spells, nodes, ends }: Heartbeat,
): Promise<Record<string, string>> {
  const now = context.clock()
  await context.storage.transaction(async (tx) => {
    if (ends === true) await forgetProcess(tx, teller.id)
    else {
      const { id, host, pid, role, startedAt: started_at } = teller
      const about = { id, host: host.slice(0, 253), pid, role, started_at, seen_at: now.toISOString() }
      await saveProcess(tx, { ...about, stats: statsOf(load), ...claimOf(server) })
    }
    await forgetProcesses(tx, addSeconds(now, -goneSeconds))
    for (const { since, until, times } of spells) {
      const { host, pid } = teller
      await appendEvent(tx, {
        kind: until === null ? 'overload-began' : 'overload-ended',
        at: now,
        node: null,
        session: null,
        actor: 'server',
        source: null,
        detail: { host, pid, since, ...(until === null ? {} : { until, times }) },
      })
    }
  })
  return sitesOf(context.storage.db, nodes)
}

function claimOf(server: ServerClaim | undefined): Pick<ProcessRow, 'version' | 'leads' | 'marks'> {
  if (server === undefined) return { version: null, leads: null, marks: null }
  const { version, leads, marks } = server
  return { version, leads: leads ? 1 : 0, marks: marks === null ? null : JSON.stringify(marks) }
}

async function sitesOf(db: Queries, nodes: readonly string[]): Promise<Record<string, string>> {
  const sites: Record<string, string> = {}
  for (let from = 0; from < nodes.length; from += maxNamesAtOnce) {
    for (const { name, labels } of await findLabels(db, nodes.slice(from, from + maxNamesAtOnce))) {
      const site = (JSON.parse(labels) as Record<string, string>)[siteLabel]
      if (site !== undefined) sites[name] = site
    }
  }
  return sites
}

/** As it is stored: of the nodes that wait as many as fit, those told last. */
function statsOf(load: ProcessLoad): string {
  let { nodes } = load
  for (;;) {
    const text = JSON.stringify({ ...load, nodes })
    if (Buffer.byteLength(text) <= maxStatsBytes) return text
    nodes = nodes.slice(0, Math.floor(nodes.length / 2))
  }
}

/** Shows the processes that serve. */
export async function showProcesses(db: Queries): Promise<ProcessView[]> {
  return (await listProcesses(db)).map(({ id, host, pid, role, started_at, seen_at, stats }) => ({
    id,
    host,
    pid,
    role,
    startedAt: started_at,
    seenAt: seen_at,
    load: JSON.parse(stats) as ProcessLoad, // written above
  }))
}

/** The nodes that were told to come again and have not come, by name, whichever process told them. */
export async function waitingNodes(db: Queries): Promise<ReadonlyMap<string, WaitingNode>> {
  const found = new Map<string, WaitingNode>()
  for (const { load } of await showProcesses(db)) {
    for (const node of load.nodes) {
      const before = found.get(node.node)
      if (before === undefined || before.at < node.at) found.set(node.node, node)
    }
  }
  return found
}
