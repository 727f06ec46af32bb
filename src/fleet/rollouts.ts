import type { BootContext } from '../boot/context.ts'
import { judgeWave, pause, readPlan } from '../boot/rollout-outcome.ts'
import { inTransaction } from '../boot/work.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { type ChannelRef, formatChannelRef } from '../domain/channel.ts'
import { quote } from '../domain/node.ts'
import { placeInRollout, type RolloutPlan } from '../domain/rollout.ts'
import { PawlError } from '../errors.ts'
import { findChannel, lockChannel } from '../storage/channels.ts'
import type { ChannelRow, RolloutRow } from '../storage/image-tables.ts'
import {
  findLiveRollout,
  findRollout,
  insertRollout,
  listLiveRollouts,
  lockRollout,
  updateRollout,
} from '../storage/rollouts.ts'
import { type By, type Change, change } from './change.ts'
import { checkMayServe, needsSecondPerson } from './channel-rules.ts'
import { noSuchChannel } from './channels.ts'
import { readLabels } from './node-view.ts'
import { checkScope } from './operators.ts'
import { type Approval, type ProposalView, propose } from './proposals.ts'
import { parseLabel } from './reinstall-selection.ts'
import { followersOf, type NewRollout, planOf, waveOf } from './rollout-plan.ts'
import { type RolloutView, rolloutView } from './rollout-view.ts'

/** What a rollout would do, or has begun to do. */
export interface PlannedRollout {
  readonly channel: string
  readonly version: string
  readonly before: string
  readonly plan: RolloutPlan
  /** Nodes that follow the channel and are in no wave: they get the version when the channel moves. */
  readonly outside: number
  /** The rollout; null for a dry run, and where it waits for a second person. */
  readonly rollout: RolloutView | null
  readonly proposal: ProposalView | null
}

/** Starts a rollout, or with `dryRun` says what it would be. Throws `conflict` where the channel is under one. */
export function startRollout(
  context: BootContext,
  by: By,
  ref: ChannelRef,
  asked: NewRollout,
  options: { readonly dryRun: boolean } = { dryRun: false },
): Promise<PlannedRollout> {
  return change(context, by, (change) => startIn(change, ref, asked, options))
}

/** The same inside a change; with `approval` it was proposed and is approved now. */
export async function startIn(
  change: Change,
  ref: ChannelRef,
  asked: NewRollout,
  options: { readonly dryRun: boolean; readonly approval?: Approval; readonly proposed?: ProposedRollout },
): Promise<PlannedRollout> {
  const { tx, context } = change
  if ((await findChannel(tx, ref)) === undefined) throw noSuchChannel(ref)
  const row = await lockChannel(tx, context.storage.dialect, ref, change.now)
  const before = await checkMayStart(change, ref, row, asked.version)
  const id = Buffer.from(context.randomBytes(9)).toString('base64url')
  const fleet = await followersOf(change, ref)
  const wanted = asked.label === undefined ? undefined : parseLabel(asked.label)
  const members = fleet
    .filter((node) => wanted === undefined || readLabels(node.labels)[wanted[0]] === wanted[1])
    .map((node) => ({ node: node.id, place: placeInRollout(id, node.name) }))
    .sort((a, b) => (a.place < b.place ? -1 : 1))
  if (members.length === 0) throw nobody(ref, asked.label)
  const plan = planOf(asked, members.length)
  const shown = {
    ...{ channel: formatChannelRef(ref), version: asked.version, before, plan },
    outside: fleet.length - members.length,
  }
  if (options.proposed !== undefined) refuseOther(options.proposed, shown)
  if (options.dryRun) return { ...shown, rollout: null, proposal: null }
  if (options.approval === undefined && (await needsSecondPerson(change, row))) {
    const document = { ...shown, asked }
    const proposed = { kind: 'rollout' as const, subject: shown.channel, document, why: asked.why ?? null }
    return { ...shown, rollout: null, proposal: await propose(change, proposed) }
  }
  const rollout = rolloutRow(change, { id, ref, before, plan, asked, approval: options.approval })
  await insertRollout(
    tx,
    rollout,
    members.map(({ node }, index) => ({ node, wave: waveOf(plan, index) })),
  )
  await change.note('rollout-started', null, { ...facts(rollout), before, plan, ...options.approval })
  return { ...shown, rollout: await rolloutView(tx, rollout), proposal: null }
}

/** A rollout as it was proposed: what would be done then. */
export type ProposedRollout = Pick<PlannedRollout, 'channel' | 'version' | 'before' | 'plan' | 'outside'> & {
  readonly asked: NewRollout
}

/** What was looked at is what is done: nodes that came or went, or a channel that moved, make it another rollout. */
function refuseOther(
  { before, plan, outside }: ProposedRollout,
  now: Omit<PlannedRollout, 'rollout' | 'proposal'>,
): void {
  const same = canonicalJson({ before, plan, outside })
  if (same === canonicalJson({ before: now.before, plan: now.plan, outside: now.outside })) return
  throw new PawlError('conflict', `the rollout would be another by now: ${now.before} -> ${now.version}`, {
    hint: 'its nodes or its channel have changed since: reject the proposal, and propose it anew',
  })
}

/** Stops giving the new version to nodes that do not have it. */
export function pauseRollout(context: BootContext, by: By, id: string): Promise<RolloutView> {
  return change(context, by, async (change) => {
    const row = await lockLive(change, id)
    if (row.state === 'paused') return rolloutView(change.tx, row)
    return update(change, row, 'rollout-paused', { state: 'paused', cause: byWhom(by) })
  })
}

/** Goes on with a paused rollout; its wave's time begins anew. */
export function resumeRollout(context: BootContext, by: By, id: string): Promise<RolloutView> {
  return change(context, by, async (change) => {
    const row = await lockLive(change, id)
    if (row.state === 'running') return rolloutView(change.tx, row)
    const wave_started_at = change.now.toISOString()
    const resumed = { ...row, state: 'running' as const, cause: null, wave_started_at }
    await update(change, row, 'rollout-resumed', { state: 'running', cause: null, wave_started_at })
    // What was reported meanwhile counts now.
    await judgeWave(change, resumed)
    return rolloutView(change.tx, (await findRollout(change.tx, id)) ?? resumed)
  })
}

/** Ends a rollout: everyone's next boot is of the version before. */
export function abortRollout(context: BootContext, by: By, id: string): Promise<RolloutView> {
  return change(context, by, async (change) => {
    const row = await lockLive(change, id)
    return update(change, row, 'rollout-aborted', {
      state: 'aborted',
      cause: byWhom(by),
      ended_at: change.now.toISOString(),
    })
  })
}

/**
 * What rollouts do by themselves in time: a wave that has not passed in its time pauses its rollout, since nodes that do not
 * boot prove nothing, for or against it; one whose missing nodes were removed goes on.
 */
export async function tendRollouts(context: BootContext): Promise<void> {
  for (const { id } of await listLiveRollouts(context.storage.db)) {
    await inTransaction(context, async (work) => {
      const row = await lockRollout(work.tx, context.storage.dialect, id)
      if (row?.state !== 'running') return
      const seconds = readPlan(row).waveTimeoutSeconds
      if (Date.parse(row.wave_started_at) + seconds * 1000 > work.now.getTime()) return judgeWave(work, row)
      await pause(work, row, `wave ${row.wave} did not pass within ${seconds} s`)
    })
  }
}

async function checkMayStart(
  change: Change,
  ref: ChannelRef,
  row: ChannelRow,
  version: string,
): Promise<string> {
  const live = await findLiveRollout(change.tx, ref)
  const channel = formatChannelRef(ref)
  if (live !== undefined) {
    throw new PawlError('conflict', `channel ${channel} is under rollout ${live.id} of ${live.version}`, {
      hint: `see it with pawl rollout status ${live.id}, end it with pawl rollout abort ${live.id}`,
    })
  }
  if (row.version === null) {
    throw new PawlError('conflict', `channel ${channel} points at nothing that nodes could go back to`, {
      hint: `set it first: pawl channel set ${channel} VERSION`,
    })
  }
  await checkMayServe(change, ref, row, version)
  if (row.version === version) throw new PawlError('conflict', `channel ${channel} is at ${version} already`)
  return row.version
}

function rolloutRow(
  { by, now }: Change,
  made: {
    id: string
    ref: ChannelRef
    before: string
    plan: RolloutPlan
    asked: NewRollout
    approval: Approval | undefined
  },
): RolloutRow {
  return {
    id: made.id,
    name: made.ref.name,
    channel: made.ref.channel,
    version: made.asked.version,
    before: made.before,
    plan: JSON.stringify(made.plan),
    state: 'running',
    wave: 1,
    wave_started_at: now.toISOString(),
    cause: null,
    why: made.asked.why ?? null,
    started_by: made.approval?.proposedBy ?? by.actor,
    approved_by: made.approval?.approvedBy ?? null,
    started_at: now.toISOString(),
    ended_at: null,
  }
}

async function lockLive(change: Change, id: string): Promise<RolloutRow> {
  const row = await lockRollout(change.tx, change.context.storage.dialect, id)
  if (row === undefined) {
    throw new PawlError('not-found', `there is no rollout ${quote(id)}`, {
      hint: 'list them with pawl rollout list',
    })
  }
  checkScope(change.by, row.name)
  if (row.ended_at !== null) throw new PawlError('conflict', `rollout ${id} is ${row.state}`)
  return row
}

function byWhom(by: By): string {
  return `by ${by.actor.replace(/^operator:/, '')}`
}

async function update(
  change: Change,
  row: RolloutRow,
  kind: 'rollout-paused' | 'rollout-resumed' | 'rollout-aborted',
  changes: Partial<RolloutRow>,
): Promise<RolloutView> {
  await updateRollout(change.tx, row.id, changes)
  await change.note(kind, null, facts(row))
  return rolloutView(change.tx, { ...row, ...changes })
}

function facts({ id, name, channel, version, why }: RolloutRow): Record<string, unknown> {
  return { rollout: id, channel: `${name}/${channel}`, version, why }
}

function nobody(ref: ChannelRef, label: string | undefined): PawlError {
  const channel = formatChannelRef(ref)
  return new PawlError(
    'conflict',
    `no node${label === undefined ? '' : ` with label ${label}`} has a profile that follows channel ${channel}`,
    { hint: `a profile follows it where a sequence names it: stage3: ${channel}` },
  )
}
