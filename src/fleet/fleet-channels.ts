import { canonicalJson } from '../domain/canonical-json.ts'
import { formatChannelRef, parseChannelRef, parseVersionFor } from '../domain/channel.ts'
import { PawlError } from '../errors.ts'
import { deleteChannel, findChannel, listChannels, lockChannel } from '../storage/channels.ts'
import type { ChannelRow } from '../storage/image-tables.ts'
import { listProposals } from '../storage/proposals.ts'
import { findLiveRollout } from '../storage/rollouts.ts'
import type { Change } from './change.ts'
import { needsSecondPerson } from './channel-rules.ts'
import { type ChannelRules, moveIn, protectIn } from './channels.ts'
import {
  applyEach,
  emptyPlan,
  type FieldChange,
  type FleetChannel,
  type FleetRequest,
  type KindPlan,
  lastOf,
  plainChange,
  type Records,
  remember,
} from './fleet-plan.ts'
import { checkScope } from './operators.ts'

const rules = ['twoPerson', 'requireTest'] as const

/**
 * Plans what the files say of channels, and makes the changes: a dry run takes the transaction back. A move that needs a
 * second person is proposed, as it is when it is asked for alone; everything else of the plan is done.
 */
export async function applyChannels(
  change: Change,
  request: FleetRequest,
  records: Records,
  which: (row: ChannelRow | undefined) => boolean,
): Promise<KindPlan> {
  const plan = emptyPlan()
  const rows = new Map((await listChannels(change.tx)).map((row) => [formatChannelRef(row), row]))
  const meant = request.channels.filter(({ channel }) => which(rows.get(channel)))
  const written = new Map(meant.map((one) => [one.channel, one]))
  await applyEach(plan, { request, records, kind: 'channel' }, written, (one, name) =>
    applyOne(change, plan, request, records, one, rows.get(name)),
  )
  return plan
}

async function applyOne(
  change: Change,
  plan: KindPlan,
  request: FleetRequest,
  records: Records,
  written: FleetChannel,
  row: ChannelRow | undefined,
): Promise<void> {
  const name = written.channel
  const ref = parseChannelRef(name)
  checkScope(change.by, ref.name)
  const last = lastOf(records, request.set, 'channel', name)
  const { version: wanted } = written
  const version = wanted === undefined ? undefined : parseVersionFor(ref, wanted)
  const asked: ChannelRules = Object.fromEntries(
    rules.flatMap((rule) => {
      // A version that the files name no more stays: a channel cannot be pointed at nothing. A rule goes.
      const value = written[rule] ?? (rule in last ? false : undefined)
      return value === undefined ? [] : [[rule, value]]
    }),
  )
  const fields = changesOf(row, version, asked, last)
  const record = (at: string | null | undefined): void => {
    const { channel: _, version: __, ...named } = written
    const document = canonicalJson(at == null ? named : { ...named, version: at })
    remember(plan, records, { kind: 'channel', name, set_name: request.set, document })
  }
  if (row !== undefined && fields.length === 0) {
    plan.unchanged += 1
    record(version)
    return
  }
  const notes: string[] = []
  plan.changes.push({ kind: 'channel', name, action: row === undefined ? 'add' : 'change', fields, notes })
  const ruled = fields.some(({ field }) => field !== 'version')
  if (ruled && change.by.role !== 'admin') {
    throw new PawlError('forbidden', `the rules of channel ${name} need the role admin`, {
      hint: 'leave twoPerson and requireTest out, or have an admin apply them',
    })
  }
  // A rule holds for the moves of a channel that is there; a new one must be able to begin.
  if (row !== undefined && ruled) await protectIn(change, ref, asked)
  if (version !== undefined && row?.version !== version) {
    const why = `fleet files, set ${request.set}`
    const { proposal } = await moveIn(change, ref, { how: 'set', version, why })
    if (proposal !== null) notes.push('needs a second person: it is proposed, and made when one approves it')
    record(proposal === null ? version : row?.version)
  } else record(version)
  if (row === undefined && version === undefined)
    await lockChannel(change.tx, change.context.storage.dialect, ref, change.now)
  if (row === undefined && ruled) await protectIn(change, ref, asked)
}

function changesOf(
  row: ChannelRow | undefined,
  version: string | undefined,
  asked: ChannelRules,
  last: Readonly<Record<string, unknown>>,
): FieldChange[] {
  const old: Record<string, unknown> = {
    version: row?.version ?? null,
    twoPerson: row?.two_person === 1,
    requireTest: row?.require_test === 1,
  }
  const now: Record<string, unknown> = { ...old, ...(version === undefined ? {} : { version }), ...asked }
  return Object.keys(old)
    .filter((field) => old[field] !== now[field])
    .map((field) => ({
      ...plainChange(field, old[field], now[field]),
      drifted: field in last && last[field] !== old[field],
    }))
}

/** Removes a channel that nothing needs any more, with its history; throws naming what does. Returns what it was. */
export async function removeChannelIn(
  change: Change,
  name: string,
  inUse: ReadonlyMap<string, string>,
): Promise<ChannelRow | undefined> {
  const { tx } = change
  const ref = parseChannelRef(name)
  const row = await findChannel(tx, ref)
  if (row === undefined) return undefined
  checkScope(change.by, ref.name)
  const refuse = (why: string, hint: string): never => {
    throw new PawlError('conflict', `channel ${name} ${why}`, { hint })
  }
  const user = inUse.get(name)
  if (user !== undefined) refuse(`is what profile "${user}" boots`, 'change the profile first')
  if (await needsSecondPerson(change, row))
    refuse('moves with two people only', 'an admin can take that rule off: pawl channel protect')
  if (row.require_test === 1 && change.by.role !== 'admin')
    refuse('takes tested versions only', 'only an admin can take that rule off, and it goes with the channel')
  const rollout = await findLiveRollout(tx, ref)
  if (rollout !== undefined)
    refuse(
      `is under rollout ${rollout.id} of ${rollout.version}`,
      `end it first: pawl rollout abort ${rollout.id}`,
    )
  const waiting = await listProposals(tx, { waiting: true, limit: 1000 })
  const proposal = waiting.find(
    ({ subject, kind }) => subject === name && (kind === 'channel' || kind === 'rollout'),
  )
  if (proposal !== undefined)
    refuse(`has proposal ${proposal.id} waiting`, `decide it first: pawl proposal reject ${proposal.id}`)
  const before = {
    version: row.version,
    twoPerson: row.two_person === 1,
    requireTest: row.require_test === 1,
  }
  await change.note('channel-removed', null, { channel: name, revision: row.revision, before })
  await deleteChannel(tx, ref)
  return row
}
