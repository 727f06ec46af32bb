import { type CampaignCounts, expireMark, settle } from '../boot/campaign.ts'
import type { BootContext } from '../boot/context.ts'
import { inTransaction } from '../boot/work.ts'
import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import {
  findCampaign,
  listExpiredMarks,
  listLiveCampaigns,
  listLiveNodes,
  listPlaces,
  listCampaigns as listRows,
  lockCampaign,
  type PlaceRow,
  updateCampaign,
  updatePlaces,
} from '../storage/campaigns.ts'
import { lockNodes } from '../storage/fleet.ts'
import type { CampaignNodeState, CampaignRow } from '../storage/machine-tables.ts'
import { lockNode } from '../storage/nodes.ts'
import { type CampaignView, campaignView } from './campaign-view.ts'
import { type By, type Change, change } from './change.ts'
import { cancelledBy, takeBack } from './reinstall.ts'
import { planCancels } from './reinstall-plan.ts'

/** Where a node of a campaign stands. */
export interface CampaignNode {
  readonly name: string
  readonly state: keyof CampaignCounts
  readonly cause: string | null
  /** The node's own state. */
  readonly nodeState: PlaceRow['nodeState']
  readonly attempts: number
  readonly changedAt: string
}

const listed = 100

/** Campaigns, the newest first; the latest hundred. */
export async function listCampaigns({ storage }: BootContext): Promise<CampaignView[]> {
  return Promise.all((await listRows(storage.db, listed)).map((row) => campaignView(storage.db, row)))
}

/** One campaign; throws `not-found`. */
export async function showCampaign({ storage }: BootContext, id: string): Promise<CampaignView> {
  const row = await findCampaign(storage.db, id)
  if (row === undefined) throw noSuchCampaign(id)
  return campaignView(storage.db, row)
}

/** The nodes of a campaign, page by page. */
export async function pageOfCampaign(
  { storage }: BootContext,
  id: string,
  page: {
    readonly state?: keyof CampaignCounts | undefined
    readonly after?: string | undefined
    readonly limit: number
  },
): Promise<{ items: CampaignNode[]; next: string | null }> {
  if ((await findCampaign(storage.db, id)) === undefined) throw noSuchCampaign(id)
  const { state, after, limit } = page
  const active = state === 'marked' || state === 'serving'
  const states: CampaignNodeState[] | undefined =
    state === undefined ? undefined : [active ? 'active' : state]
  const rows = await listPlaces(storage.db, id, {
    ...(states === undefined ? {} : { states }),
    ...(active ? { serving: state === 'serving' } : {}),
    after,
    limit: limit + 1,
  })
  const items = rows.slice(0, limit).map(nodeView)
  return { items, next: rows.length > limit ? (items.at(-1)?.name ?? null) : null }
}

/** Marks no further node until it is resumed; what is under way goes on. */
export function pauseCampaign(context: BootContext, by: By, id: string): Promise<CampaignView> {
  return change(context, by, async (change) => {
    const row = await lockLive(change, id)
    if (row.state === 'paused') throw new PawlError('conflict', `reinstall ${id} is paused already`)
    const paused = { state: 'paused' as const, cause: `by ${by.actor.replace(/^operator:/, '')}` }
    await updateCampaign(change.tx, id, paused)
    await change.note('campaign-paused', null, { campaign: id, cause: paused.cause })
    return campaignView(change.tx, { ...row, ...paused })
  })
}

/** Goes on with a paused campaign: failures are counted anew. */
export function resumeCampaign(context: BootContext, by: By, id: string): Promise<CampaignView> {
  return change(context, by, async (change) => {
    const row = await lockLive(change, id)
    if (row.state !== 'paused') {
      throw new PawlError('conflict', `reinstall ${id} is running`, { hint: 'there is nothing to resume' })
    }
    const resumed = { state: 'running' as const, cause: null, failures: 0 }
    await updateCampaign(change.tx, id, resumed)
    await settle(change, { ...row, ...resumed }, change.notes)
    await change.note('campaign-resumed', null, { campaign: id, failuresBefore: row.failures })
    return campaignView(change.tx, (await findCampaign(change.tx, id)) ?? row)
  })
}

/** Ends a campaign: nobody waits any more, and its marks are taken back. A session that runs goes on to its end. */
export function cancelCampaign(context: BootContext, by: By, id: string): Promise<CampaignView> {
  return change(context, by, async (change) => {
    const names = await listLiveNodes(change.tx, id)
    // Nodes first, then the campaign: the order of everyone else.
    const rows = await lockNodes(change.tx, context.storage.dialect, names)
    const row = await lockLive(change, id)
    const steps = (await planCancels(change, rows, {})).filter(({ place }) => place?.campaign === id)
    await takeBack(change, steps)
    const left = steps.map(({ node }) => node.id)
    await updatePlaces(change.tx, id, left, cancelledBy(change), change.now)
    const ended = { state: 'cancelled' as const, cause: null, ended_at: change.now.toISOString() }
    await updateCampaign(change.tx, id, ended)
    await change.note('campaign-cancelled', null, { campaign: id, cancelled: steps.length })
    return campaignView(change.tx, { ...row, ...ended })
  })
}

const expiredAtOnce = 500

/** What the server does by itself: marks run out, and places that no boot gave back are filled. */
export async function tendReinstalls(context: BootContext): Promise<void> {
  const { storage, clock } = context
  for (const name of await listExpiredMarks(storage.db, clock(), expiredAtOnce)) {
    await inTransaction(context, async (work) => {
      const node = await lockNode(work.tx, storage.dialect, name)
      if (node !== undefined) await expireMark(work, node)
    })
  }
  for (const id of await listLiveCampaigns(storage.db)) {
    await inTransaction(context, async (work) => {
      const row = await lockCampaign(work.tx, storage.dialect, id)
      if (row !== undefined) await settle(work, row)
    })
  }
}

function nodeView({
  name,
  state,
  cause,
  reinstall,
  nodeState,
  attempts,
  changed_at,
}: PlaceRow): CampaignNode {
  const shown = state === 'active' ? (reinstall === 'serving' ? 'serving' : 'marked') : state
  return { name, state: shown, cause, nodeState, attempts, changedAt: changed_at }
}

async function lockLive({ tx, context }: Change, id: string): Promise<CampaignRow> {
  const row = await lockCampaign(tx, context.storage.dialect, id)
  if (row === undefined) throw noSuchCampaign(id)
  if (row.ended_at === null) return row
  throw new PawlError('conflict', `reinstall ${id} is ${row.state}`, {
    hint: 'it is over, and nothing of it is left',
  })
}

function noSuchCampaign(id: string): PawlError {
  return new PawlError('not-found', `there is no reinstall ${quote(id)}`, {
    hint: 'list them with pawl reinstall list',
  })
}
