import type { BootContext } from '../boot/context.ts'
import { isSingle } from '../domain/address.ts'
import {
  checkNames,
  maxRuleSeconds,
  parseNameTemplate,
  parseRuleSources,
  parseSerials,
} from '../domain/auto-approval.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { addSeconds } from '../domain/clock.ts'
import { type Labels, parseLabels, quote } from '../domain/node.ts'
import { handsOutCredentials } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'
import {
  countSerials,
  countUsed,
  deleteRule,
  findRule,
  insertRule,
  listRules as listRows,
  listSerials as listSerialRows,
  lockRule,
  nodesWithSerials,
  updateRule,
} from '../storage/auto-approvals.ts'
import type { Queries } from '../storage/database.ts'
import { findProfile, listProfiles, readProfile } from '../storage/fleet.ts'
import type { AutoApprovalRow } from '../storage/machine-tables.ts'
import { type By, type Change, change, noSuchProfile } from './change.ts'
import { isUnsetSerial } from './enrolment.ts'
import { readLabels, writeAddress } from './node-view.ts'

/** A rule to make. */
export interface NewAutoApproval {
  readonly name: string
  /** Prefixes that machines may ask from. */
  readonly sources: readonly string[]
  readonly serials: readonly string[]
  readonly profile: string
  /** Of node names, with `{serial}`, `{mac}` or `{uuid}` in it; left out: `{serial}`. */
  readonly nodeName?: string
  readonly labels?: Labels
  /** Machines it may approve; left out: as many as it has serial numbers. */
  readonly limit?: number
  /** When it ends: exactly one of the two. */
  readonly until?: string
  readonly forSeconds?: number
}

/** A rule as operators see it. */
export interface AutoApprovalView {
  readonly name: string
  readonly state: 'live' | 'used-up' | 'expired' | 'revoked'
  readonly sources: readonly string[]
  readonly profile: string
  readonly nodeName: string
  readonly labels: Labels
  readonly limit: number
  readonly serials: number
  readonly used: number
  readonly createdAt: string
  readonly createdBy: string
  readonly expiresAt: string
  readonly revokedAt: string | null
  readonly revokedBy: string | null
}

/** A rule as it was made. */
export interface MadeAutoApproval extends AutoApprovalView {
  readonly warnings: readonly string[]
}

/** A serial number of a rule, and the node that took it. */
export interface RuleSerial {
  readonly serial: string
  readonly node: string | null
  readonly source: string | null
  readonly usedAt: string | null
}

/**
 * Makes a rule by which machines are approved without an operator: from these prefixes, with these serial numbers, each once,
 * until a time. Refused for a profile that hands out credentials and does not say that forged facts may get them.
 */
export function createAutoApproval(
  context: BootContext,
  by: By,
  asked: NewAutoApproval,
): Promise<MadeAutoApproval> {
  return change(context, by, async (change) => {
    if ((await findRule(change.tx, asked.name)) !== undefined) {
      throw new PawlError('exists', `rule ${quote(asked.name)} exists`, {
        hint: 'rules are not changed: make another, or remove this one when it is over',
      })
    }
    await checkProfile(change, asked.profile)
    const serials = parseSerials(asked.serials, isUnsetSerial)
    const row = rowOf(change, asked, serials)
    checkNames(row.node_name, serials)
    await insertRule(change.tx, row, serials)
    const view = viewOf(row, { serials: serials.length, used: 0 }, change.now)
    const { sources, profile, nodeName, labels, limit, expiresAt } = view
    await change.note('auto-approval-created', null, {
      rule: row.name,
      ...{ sources, profile, nodeName, labels, limit, expiresAt },
      serials: serials.length,
    })
    return { ...view, warnings: await warningsOf(change, serials) }
  })
}

/** Every rule, the newest first. */
export async function listAutoApprovals({ storage, clock }: BootContext): Promise<AutoApprovalView[]> {
  const counts = await countSerials(storage.db)
  const rows = await listRows(storage.db)
  return rows.map((row) => viewOf(row, counts.get(row.name) ?? { serials: 0, used: 0 }, clock()))
}

/** One rule; throws `not-found`. */
export async function showAutoApproval(
  { storage, clock }: BootContext,
  name: string,
): Promise<AutoApprovalView> {
  const row = await findRule(storage.db, name)
  if (row === undefined) throw noSuchRule(name)
  return viewOf(row, await countsOf(storage.db, name), clock())
}

/** A rule's serial numbers, page by page, with who took them. */
export async function listRuleSerials(
  { storage }: BootContext,
  name: string,
  page: { readonly after?: string | undefined; readonly limit: number; readonly used?: boolean | undefined },
): Promise<{ items: RuleSerial[]; next: string | null }> {
  if ((await findRule(storage.db, name)) === undefined) throw noSuchRule(name)
  const rows = await listSerialRows(storage.db, name, { ...page, limit: page.limit + 1 })
  const items = rows
    .slice(0, page.limit)
    .map(({ serial, node, source, used_at }) => ({ serial, node, source, usedAt: used_at }))
  return { items, next: rows.length > page.limit ? (items.at(-1)?.serial ?? null) : null }
}

/** Ends a rule now. The nodes that it made stay. */
export function revokeAutoApproval(context: BootContext, by: By, name: string): Promise<AutoApprovalView> {
  return change(context, by, async (change) => {
    const row = await lock(change, name)
    if (row.revoked_at !== null)
      throw new PawlError('conflict', `rule "${name}" was revoked at ${row.revoked_at}`)
    const revoked = { revoked_at: change.now.toISOString(), revoked_by: by.actor }
    await updateRule(change.tx, name, revoked)
    const counts = await countsOf(change.tx, name)
    await change.note('auto-approval-revoked', null, { rule: name, used: counts.used })
    return viewOf({ ...row, ...revoked }, counts, change.now)
  })
}

/** Removes a rule that is over, with its serial numbers: another rule may list them again. The nodes that it made stay. */
export function removeAutoApproval(context: BootContext, by: By, name: string): Promise<void> {
  return change(context, by, async (change) => {
    const row = await lock(change, name)
    const { state, used } = viewOf(row, await countsOf(change.tx, name), change.now)
    if (state === 'live') {
      throw new PawlError('conflict', `rule "${name}" is live until ${row.expires_at}`, {
        hint: `revoke it first with pawl node auto-approve revoke ${name}`,
      })
    }
    await deleteRule(change.tx, name)
    await change.note('auto-approval-removed', null, { rule: name, state, used })
  })
}

async function checkProfile({ tx }: Change, name: string): Promise<void> {
  const row = await findProfile(tx, name)
  if (row === undefined) {
    const existing = await listProfiles(tx)
    throw noSuchProfile(
      name,
      existing.map((other) => other.name),
    )
  }
  const profile = readProfile(row)
  if (!handsOutCredentials(profile) || profile.acceptAutoApproved === true) return
  throw new PawlError(
    'conflict',
    `profile "${name}" hands out credentials to join, and a machine that a rule approved proves nothing of itself`,
    {
      hint: 'approve its machines by hand, or say acceptAutoApproved: true in it (SECURITY.md tells what that gives up)',
    },
  )
}

function rowOf({ by, now }: Change, asked: NewAutoApproval, serials: readonly string[]): AutoApprovalRow {
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(asked.name))
    throw new PawlError(
      'invalid',
      `rule name ${quote(asked.name)} is not 1 to 63 lower-case letters, digits, ".", "_" or "-"`,
    )
  const sources = parseRuleSources(asked.sources)
  if (sources.length === 0) throw new PawlError('invalid', 'a rule needs a prefix that machines ask from')
  const { limit = serials.length } = asked
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > serials.length)
    throw new PawlError(
      'invalid',
      `limit ${limit} is not 1 to ${serials.length}, the number of its serial numbers`,
    )
  return {
    name: asked.name,
    sources: JSON.stringify(sources.map((range) => (isSingle(range) ? range.address : writeAddress(range)))),
    profile: asked.profile,
    node_name: parseNameTemplate(asked.nodeName ?? '{serial}'),
    labels: canonicalJson(parseLabels(asked.labels ?? {})),
    max_nodes: limit,
    created_at: now.toISOString(),
    created_by: by.actor,
    expires_at: endOf(asked, now).toISOString(),
    revoked_at: null,
    revoked_by: null,
  }
}

function endOf({ until, forSeconds }: NewAutoApproval, now: Date): Date {
  if ((until === undefined) === (forSeconds === undefined))
    throw new PawlError('invalid', 'say when the rule ends by exactly one of until and forSeconds')
  const end = until === undefined ? addSeconds(now, forSeconds ?? 0) : new Date(until)
  const seconds = (end.getTime() - now.getTime()) / 1000
  if (seconds > 0 && seconds <= maxRuleSeconds) return end
  throw new PawlError('invalid', `a rule ends in the future, within ${maxRuleSeconds / 86_400} days`)
}

const listedSerials = 5

async function warningsOf({ tx }: Change, serials: readonly string[]): Promise<string[]> {
  const taken = (await nodesWithSerials(tx, serials)).map(({ name, serial }) => `${serial} (${name})`)
  if (taken.length === 0) return []
  const more = taken.length > listedSerials ? `, and ${taken.length - listedSerials} more` : ''
  const listed = `${taken.slice(0, listedSerials).join(', ')}${more}`
  return [`nodes have these serial numbers already, so no machine is approved by them: ${listed}`]
}

async function lock({ tx, context }: Change, name: string): Promise<AutoApprovalRow> {
  const row = await lockRule(tx, context.storage.dialect, name)
  if (row === undefined) throw noSuchRule(name)
  return row
}

interface Counts {
  readonly serials: number
  readonly used: number
}

async function countsOf(db: Queries, name: string): Promise<Counts> {
  const used = await countUsed(db, name)
  return { serials: (await countSerials(db)).get(name)?.serials ?? 0, used }
}

function viewOf(row: AutoApprovalRow, { serials, used }: Counts, now: Date): AutoApprovalView {
  const over = row.revoked_at !== null ? 'revoked' : row.expires_at <= now.toISOString() ? 'expired' : 'live'
  return {
    name: row.name,
    state: over === 'live' && used >= row.max_nodes ? 'used-up' : over,
    sources: JSON.parse(row.sources) as string[], // our own column
    profile: row.profile,
    nodeName: row.node_name,
    labels: readLabels(row.labels),
    limit: row.max_nodes,
    serials,
    used,
    createdAt: row.created_at,
    createdBy: row.created_by,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    revokedBy: row.revoked_by,
  }
}

function noSuchRule(name: string): PawlError {
  return new PawlError('not-found', `there is no rule ${quote(name)}`, {
    hint: 'list them with pawl node auto-approve list',
  })
}
