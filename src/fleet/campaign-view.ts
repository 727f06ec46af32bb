import { type CampaignCounts, countsOf } from '../boot/campaign.ts'
import { countPlaces } from '../storage/campaigns.ts'
import type { Queries } from '../storage/database.ts'
import type { CampaignRow } from '../storage/machine-tables.ts'

/** A reinstall of many nodes as operators see it. */
export interface CampaignView {
  readonly id: string
  /** Which nodes, as it was asked. */
  readonly selection: string
  readonly state: CampaignRow['state']
  /** Why it is paused. */
  readonly cause: string | null
  readonly maxParallel: number | null
  readonly maxFailures: number | null
  readonly expiresSeconds: number | null
  /** Nodes that failed since it was started or resumed. */
  readonly failures: number
  readonly nodes: number
  readonly counts: CampaignCounts
  readonly startedBy: string
  readonly startedAt: string
  readonly endedAt: string | null
}

/** A campaign with its counts. */
export async function campaignView(db: Queries, row: CampaignRow): Promise<CampaignView> {
  const counts = countsOf(await countPlaces(db, row.id))
  return {
    id: row.id,
    selection: row.selection,
    state: row.state,
    cause: row.cause,
    maxParallel: row.max_parallel,
    maxFailures: row.max_failures,
    expiresSeconds: row.mark_seconds,
    failures: row.failures,
    nodes: Object.values(counts).reduce((sum, number) => sum + number, 0),
    counts,
    startedBy: row.started_by,
    startedAt: row.started_at,
    endedAt: row.ended_at,
  }
}
