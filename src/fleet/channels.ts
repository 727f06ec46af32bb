import type { BootContext } from '../boot/context.ts'
import { type ChannelRef, formatChannelRef } from '../domain/channel.ts'
import { PawlError } from '../errors.ts'
import {
  findArrival,
  findChannel,
  listMoves,
  lockChannel,
  moveChannel,
  updateChannel,
} from '../storage/channels.ts'
import type { Queries } from '../storage/database.ts'
import { findImage } from '../storage/fleet.ts'
import type { ChannelMoveRow, ChannelRow } from '../storage/image-tables.ts'
import { type PageRequest, pageOfChannels } from '../storage/pages.ts'
import { findLiveRollout } from '../storage/rollouts.ts'
import { type By, type Change, change } from './change.ts'
import { checkMayServe, needsSecondPerson } from './channel-rules.ts'
import { type Listed, listed } from './listed.ts'
import { type Approval, type ProposalView, propose } from './proposals.ts'
import { requireRevision } from './revision.ts'

/** A channel as operators see it. */
export interface ChannelView {
  /** `name/channel`. */
  readonly channel: string
  /** Null until it is set for the first time. */
  readonly version: string | null
  /** The version's manifest digest. */
  readonly digest: string | null
  /** Its moves want a second person. */
  readonly twoPerson: boolean
  /** It takes only versions whose last test passed. */
  readonly requireTest: boolean
  /** The rollout that is on: its id. */
  readonly rollout: string | null
  /** Counted up with each move and each change of its rules. */
  readonly revision: number
  readonly updatedAt: string
}

/** One move of a channel. */
export interface MoveView {
  readonly version: string
  readonly before: string | null
  readonly how: ChannelMoveRow['how']
  readonly why: string | null
  readonly by: string
  readonly approvedBy: string | null
  readonly at: string
}

/** A channel with its moves, the latest first. */
export interface ChannelHistory extends ChannelView {
  readonly moves: readonly MoveView[]
}

/** A channel behind a change that was asked for. */
export interface ChangedChannel extends ChannelView {
  /** False where it was so already, and where the change waits for a second person. */
  readonly changed: boolean
  /** The change, where it waits for a second person. */
  readonly proposal: ProposalView | null
}

/** A move to make; `rollback` finds its version itself, unless it was found before. */
export type Move = { readonly why: string | null } & (
  | { readonly how: 'set'; readonly version: string }
  | { readonly how: 'rollback'; readonly version?: string }
)

const maxMoves = 1000

/** Channels by name. */
export async function listChannels(db: Queries, page: PageRequest): Promise<Listed<ChannelView>> {
  return listed(await pageOfChannels(db, page), (row) => viewOf(db, row))
}

/** A channel with its moves; throws `not-found`. */
export async function showChannel(db: Queries, ref: ChannelRef): Promise<ChannelHistory> {
  const row = await findChannel(db, ref)
  if (row === undefined) throw noSuchChannel(ref)
  const moves = await listMoves(db, ref, maxMoves)
  return { ...(await viewOf(db, row)), moves: moves.map(moveView) }
}

/**
 * Points a channel at a version, or back at the one before. Boots that are under way keep what they began with. Where a
 * second person is needed the move is proposed, and nothing is changed.
 */
export function move(context: BootContext, by: By, ref: ChannelRef, asked: Move): Promise<ChangedChannel> {
  return change(context, by, (change) => moveIn(change, ref, asked))
}

/** The same inside a change; with `approval` it was proposed and is approved now. */
export async function moveIn(
  change: Change,
  ref: ChannelRef,
  asked: Move,
  approval?: Approval,
): Promise<ChangedChannel> {
  const { tx, now, by } = change
  if (asked.how === 'rollback' && (await findChannel(tx, ref)) === undefined) throw noSuchChannel(ref)
  const row = await lock(change, ref)
  await refuseDuringRollout(change, ref)
  const version = asked.version ?? (await versionBefore(change, ref, row))
  await checkMayServe(change, ref, row, version, { servedBefore: asked.how === 'rollback' })
  if (row.version === version) return unchanged(change, row)
  if (approval === undefined && (await needsSecondPerson(change, row))) {
    const document = { channel: formatChannelRef(ref), version, before: row.version, how: asked.how }
    const subject = formatChannelRef(ref)
    const proposal = await propose(change, { kind: 'channel', subject, document, why: asked.why })
    return { ...(await viewOf(tx, row)), changed: false, proposal }
  }
  const approvedBy = approval?.approvedBy ?? null
  await moveChannel(tx, {
    ...{ name: ref.name, channel: ref.channel, version, before: row.version, how: asked.how, why: asked.why },
    moved_by: approval?.proposedBy ?? by.actor,
    approved_by: approvedBy,
    moved_at: now.toISOString(),
  })
  const { how, why } = asked
  const detail = { channel: formatChannelRef(ref), version, before: row.version, how, why }
  await change.note('channel-moved', null, approval === undefined ? detail : { ...detail, ...approval })
  return {
    ...(await viewOf(tx, (await findChannel(tx, ref)) ?? row)),
    changed: true,
    proposal: null,
  }
}

/** What a channel demands of its moves. */
export interface ChannelRules {
  readonly twoPerson?: boolean
  readonly requireTest?: boolean
}

/** Changes a channel's rules; a channel that is not there is made, pointing at nothing. */
export function protectChannel(
  context: BootContext,
  by: By,
  ref: ChannelRef,
  rules: ChannelRules,
): Promise<ChannelView> {
  return change(context, by, (change) => protectIn(change, ref, rules))
}

/** The same inside a change. */
export async function protectIn(change: Change, ref: ChannelRef, rules: ChannelRules): Promise<ChannelView> {
  const { tx, now } = change
  const row = await lock(change, ref)
  const after: ChannelRow = {
    ...row,
    two_person: Number(rules.twoPerson ?? row.two_person === 1),
    require_test: Number(rules.requireTest ?? row.require_test === 1),
    updated_at: now.toISOString(),
  }
  if (after.two_person === row.two_person && after.require_test === row.require_test) return viewOf(tx, row)
  const { two_person, require_test, updated_at } = after
  await updateChannel(tx, ref, { two_person, require_test, updated_at })
  await change.note('channel-protected', null, {
    channel: formatChannelRef(ref),
    before: rulesOf(row),
    after: rulesOf(after),
  })
  return viewOf(tx, (await findChannel(tx, ref)) ?? after)
}

/** Finds a channel, made where there is none, and keeps it from changing; throws `precondition-failed`. */
async function lock(change: Change, ref: ChannelRef): Promise<ChannelRow> {
  const { tx, by, context, now } = change
  const known = by.precondition === undefined || (await findChannel(tx, ref)) !== undefined
  const row = await lockChannel(tx, context.storage.dialect, ref, now)
  const thing = { kind: 'channel', name: formatChannelRef(ref) } as const
  await requireRevision(change, thing, known ? row.revision : undefined)
  return row
}

/** The error for a channel that is not there. */
export function noSuchChannel(ref: ChannelRef): PawlError {
  return new PawlError('not-found', `channel "${formatChannelRef(ref)}" does not exist`, {
    hint: 'list them with pawl channel list',
  })
}

async function refuseDuringRollout(change: Change, ref: ChannelRef): Promise<void> {
  const rollout = await findLiveRollout(change.tx, ref)
  if (rollout === undefined) return
  throw new PawlError(
    'conflict',
    `channel ${formatChannelRef(ref)} is under rollout ${rollout.id} of ${rollout.version}`,
    { hint: `end it first: pawl rollout abort ${rollout.id}` },
  )
}

/** Where a channel was before it came to its version. Rolling back twice goes two versions back, not there and back again. */
async function versionBefore(change: Change, ref: ChannelRef, row: ChannelRow): Promise<string> {
  const arrival = row.version === null ? undefined : await findArrival(change.tx, ref, row.version)
  if (arrival?.before != null) return arrival.before
  throw new PawlError('conflict', `channel ${formatChannelRef(ref)} has no version before this one`, {
    hint: `name one: pawl channel set ${formatChannelRef(ref)} VERSION`,
  })
}

async function unchanged(change: Change, row: ChannelRow): Promise<ChangedChannel> {
  return { ...(await viewOf(change.tx, row)), changed: false, proposal: null }
}

function rulesOf(row: ChannelRow): ChannelRules {
  return { twoPerson: row.two_person === 1, requireTest: row.require_test === 1 }
}

async function viewOf(db: Queries, row: ChannelRow): Promise<ChannelView> {
  const image = row.version === null ? undefined : await findImage(db, row.name, row.version)
  return {
    channel: formatChannelRef(row),
    version: row.version,
    digest: image?.digest ?? null,
    twoPerson: row.two_person === 1,
    requireTest: row.require_test === 1,
    rollout: (await findLiveRollout(db, row))?.id ?? null,
    revision: row.revision,
    updatedAt: row.updated_at,
  }
}

function moveView(row: ChannelMoveRow): MoveView {
  const { version, before, how, why } = row
  return { version, before, how, why, by: row.moved_by, approvedBy: row.approved_by, at: row.moved_at }
}
