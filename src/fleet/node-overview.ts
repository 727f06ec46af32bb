import type { Labels } from '../domain/node.ts'
import type { Pace } from '../domain/pace.ts'
import type { Queries } from '../storage/database.ts'
import { countImageUses, type ImageUseRow, listOverview, type OverviewRow } from '../storage/node-overview.ts'
import { readLabels } from './node-view.ts'

/** A node in one line. */
export interface OverviewNode {
  readonly name: string
  readonly state: OverviewRow['state']
  readonly failureCause: string | null
  readonly profile: string | null
  readonly labels: Labels
  readonly reinstall: OverviewRow['reinstall']
  readonly session: OverviewRow['session_state']
  /** The last stage that was opened. */
  readonly stage: OverviewRow['stage']
  readonly sequence: OverviewRow['sequence']
  readonly startedAt: string | null
  readonly lastSeenAt: string | null
  readonly endedAt: string | null
  /** How the boot that is under way comes along; null where none is. */
  readonly pace: Pace | null
  /** Since when it boots again and again without a report; null where it does not. */
  readonly loopingSince: string | null
}

/** The whole fleet at once, to be searched and sorted by whoever shows it. */
export interface Overview {
  readonly nodes: readonly OverviewNode[]
  /** There are more than one answer has. */
  readonly more: boolean
}

/** 20,000 nodes are 5 MB of JSON, a tenth of it when it is compressed. */
export const maxOverviewNodes = 20_000

/** All nodes in a line each; with `names` those of them that are there. */
export async function overviewOf(db: Queries, names?: readonly string[]): Promise<Overview> {
  const rows = await listOverview(db, { limit: maxOverviewNodes + 1, names })
  return { nodes: rows.slice(0, maxOverviewNodes).map(lineOf), more: rows.length > maxOverviewNodes }
}

function lineOf(row: OverviewRow): OverviewNode {
  return {
    name: row.name,
    state: row.state,
    failureCause: row.failure_cause,
    profile: row.profile,
    labels: readLabels(row.labels),
    reinstall: row.reinstall,
    session: row.session_state,
    stage: row.stage,
    sequence: row.sequence,
    startedAt: row.started_at,
    lastSeenAt: row.last_seen_at,
    endedAt: row.ended_at,
    pace: row.started_at === null || row.ended_at !== null ? null : (row.pace ?? 'usual'),
    loopingSince: row.looping_since,
  }
}

/** An image, and how many nodes booted it last. */
export type ImageUse = ImageUseRow

/** Who runs what, by the image of the full system. */
export async function imageUses(db: Queries): Promise<{ items: ImageUse[] }> {
  return { items: await countImageUses(db) }
}
