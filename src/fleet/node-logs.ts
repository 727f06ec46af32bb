import type { BootContext } from '../boot/context.ts'
import { quote } from '../domain/node.ts'
import type { StageName } from '../domain/stage.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findNode, type NodeRecord } from '../storage/nodes.ts'
import { findSession } from '../storage/sessions.ts'
import { listLogs, listNodeSessions } from '../storage/spans.ts'
import type { SessionRow } from '../storage/tables.ts'
import { noSuchNode } from './change.ts'

/** The last lines of a node's consoles, in one boot session. */
export interface NodeLogs {
  readonly node: string
  /** Null for a node that has not booted yet. */
  readonly session: string | null
  readonly logs: readonly {
    /** Whose console: that of the agent of this stage. */
    readonly stage: StageName
    readonly at: string
    /** What the node sent, cleaned: its word, and hostile as such. */
    readonly text: string
    /** Lines before those that are shown here. */
    readonly before: number
  }[]
}

/** Shows what a node sent of its consoles, `lines` of each at most; of its latest session unless another is named. */
export async function nodeLogs(
  { storage: { db } }: BootContext,
  name: string,
  { session: wanted, lines }: { readonly session?: string | undefined; readonly lines: number },
): Promise<NodeLogs> {
  const node = await knownNode(db, name)
  const session = wanted ?? node.session
  if (session === null) return { node: name, session: null, logs: [] }
  if (wanted !== undefined) await checkSession(db, node, wanted)
  const rows = await listLogs(db, session)
  const logs = rows.map(({ stage, at, text }) => {
    const all = text.replace(/\n$/, '').split('\n')
    const shown = all.slice(-lines)
    return { stage, at, text: `${shown.join('\n')}\n`, before: all.length - shown.length }
  })
  return { node: name, session, logs }
}

/** A boot session in the list of its node's. */
export interface ListedSession {
  readonly id: string
  readonly sequence: SessionRow['sequence']
  readonly local: boolean
  readonly state: SessionRow['state']
  readonly stage: StageName
  readonly cause: string | null
  readonly source: string
  readonly startedAt: string
  readonly endedAt: string | null
}

/** The boot sessions of a node that are still kept, the latest first, behind the one named. */
export async function nodeSessions(
  { storage: { db } }: BootContext,
  name: string,
  { after, limit }: { readonly after?: string | undefined; readonly limit: number },
): Promise<{ items: ListedSession[]; next: string | null }> {
  const node = await knownNode(db, name)
  if (after !== undefined) await checkSession(db, node, after)
  const rows = await listNodeSessions(db, { node: node.id, before: after, limit: limit + 1 })
  const items = rows.slice(0, limit).map((row) => ({
    ...{ id: row.id, sequence: row.sequence, local: row.local === 1, state: row.state, stage: row.stage },
    ...{ cause: row.cause, source: row.source, startedAt: row.started_at, endedAt: row.ended_at },
  }))
  return { items, next: rows.length > limit ? (items.at(-1)?.id ?? null) : null }
}

async function knownNode(db: Queries, name: string): Promise<NodeRecord> {
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  return node
}

async function checkSession(db: Queries, node: NodeRecord, id: string): Promise<void> {
  if ((await findSession(db, id))?.node !== node.id)
    throw new PawlError('not-found', `node "${node.name}" has no session ${quote(id)}`)
}
