import { createHash } from 'node:crypto'
import { countingUnit, siteUnit } from '../domain/address.ts'
import { addSeconds } from '../domain/clock.ts'
import type { EventKind } from '../domain/event.ts'
import { type Facts, parseFacts } from '../domain/facts.ts'
import { PawlError } from '../errors.ts'
import type { PendingMachineRow } from '../storage/machine-tables.ts'
import {
  findPending,
  findRejected,
  forgetExpired,
  insertPending,
  listForRoom,
  removePending,
  updatePending,
} from '../storage/pending.ts'
import { type identifying, machineOf, newClaim, type ToldClaim, toldClaim } from './claim.ts'
import type { BootContext } from './context.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/** An unknown machine's request. */
export interface EnrolRequest extends Asking {
  readonly fields: Readonly<Record<string, unknown>>
}

/** What rules make of a machine: a node's name, why none does though one has its serial number, or nothing. */
export type RuleAnswer = { readonly node: string } | { readonly refused: string } | undefined

/** Asks the rules that approve machines, in the transaction of the machine's request. */
export type ByRule = (work: Work, machine: PendingMachineRow, facts: Facts) => Promise<RuleAnswer>

/** How long a machine that was turned away waits between two requests. */
const rejectedWaitSeconds = 600
/** A row that was not asked for since gives way to the same machine's next: it was started again. */
const stillAskingSeconds = 120
/** Rows that tell the same from the same address at a time: forgers among them, the console says which is which. */
const maxAlike = 4

/**
 * Answers a machine that no node matches: a script that shows its facts and a code, and asks again. The code is bound to
 * the facts, the source and the claim that this script alone is given; it lives an hour, and is renewed by asking.
 */
export function enrol(context: BootContext, request: EnrolRequest): Promise<string> {
  return recordingRefusals(context, { ...request, host: undefined }, () => {
    const facts = readFacts(request)
    return inTransaction(context, (work) => enrolIn(work, request, facts))
  })
}

/** Reads what a machine tells; throws `invalid`. */
export function readFacts(request: EnrolRequest): Facts {
  const result = parseFacts(request.fields)
  if ('bad' in result) throw new PawlError('invalid', `fact "${result.bad.name}" ${result.bad.reason}`)
  return result.facts
}

/** The same inside a transaction, with rules that may approve the machine now. */
export async function enrolIn(
  work: Work,
  request: EnrolRequest,
  facts: Facts,
  byRule: ByRule = async () => undefined,
): Promise<string> {
  const { tx, now, context } = work
  await forgetExpired(tx, now)
  const machine = machineOf(facts, request.source)
  const rejected = await findRejected(tx, machine, now)
  if (rejected !== undefined) return turnAway(work, rejected)
  const told = toldClaim(request.fields)
  const known = await renew(work, machine, told)
  const { row, claim } = known ?? (await add(work, { facts, source: request.source, machine, told }))
  const answer = await byRule(work, row, facts)
  if (answer !== undefined && 'node' in answer) {
    await removePending(tx, [row.code])
    return context.templates.render('approved.ipxe', { host: answer.node, claim })
  }
  if (answer !== undefined) await noteNotByRule(work, row, facts, answer.refused)
  return context.templates.render('pending.ipxe', { code: row.code, claim, ...shown(facts) })
}

/** The facts for a console line. What iPXE would not take as one harmless word is shown as `_`: a fact is told, not trusted. */
function shown(facts: Facts): Record<(typeof identifying)[number], string> {
  const word = (name: (typeof identifying)[number]): string =>
    (facts[name] ?? 'unknown').slice(0, 64).replace(/^-|[^A-Za-z0-9.:_-]/g, '_')
  return {
    mac: word('mac'),
    uuid: word('uuid'),
    serial: word('serial'),
    manufacturer: word('manufacturer'),
    product: word('product'),
  }
}

async function turnAway({ tx, now, context }: Work, row: PendingMachineRow): Promise<string> {
  await updatePending(tx, row.code, { last_seen_at: now.toISOString() })
  const left = Math.ceil((Date.parse(row.expires_at) - now.getTime()) / 1000)
  const seconds = Math.max(1, Math.min(rejectedWaitSeconds, left))
  return context.templates.render('rejected.ipxe', { code: row.code, until: row.expires_at, seconds })
}

/** A row, and the claim to hand out with it; empty where the machine has it, or could not send it. */
interface Waiting {
  readonly row: PendingMachineRow
  readonly claim: string
}

async function renew(work: Work, machine: string, told: ToldClaim): Promise<Waiting | undefined> {
  if (told === 'none') return undefined
  const row = await findPending(work.tx, fingerprintOf(machine, told))
  if (row === undefined) return undefined
  await updatePending(work.tx, row.code, timesOf(work))
  return { row, claim: '' }
}

async function add(
  work: Work,
  asking: { facts: Facts; source: string; machine: string; told: ToldClaim },
): Promise<Waiting> {
  const { tx, now, context } = work
  const { facts, source, machine } = asking
  await makeRoom(work, machine, source)
  const claim = asking.told === undefined ? undefined : newClaim(context.randomBytes)
  const row: PendingMachineRow = {
    code: newCode(context.randomBytes(8)),
    fingerprint: fingerprintOf(machine, claim?.hash),
    machine,
    claim_hash: claim?.hash ?? null,
    facts: JSON.stringify(facts),
    source,
    first_seen_at: now.toISOString(),
    rejected: 0,
    not_by_rule: null,
    ...timesOf(work),
  }
  await insertPending(tx, row)
  noteUnknown(work, 'machine-pending', 'unknown', source, { facts })
  return { row, claim: claim?.text ?? '' }
}

function timesOf({ now, context }: Work): Pick<PendingMachineRow, 'last_seen_at' | 'expires_at'> {
  return {
    last_seen_at: now.toISOString(),
    expires_at: addSeconds(now, context.settings.enrolmentLifetimeSeconds).toISOString(),
  }
}

/** Once for each cause: a machine asks every half minute. */
async function noteNotByRule(work: Work, row: PendingMachineRow, facts: Facts, cause: string): Promise<void> {
  if (row.not_by_rule === cause) return
  await updatePending(work.tx, row.code, { not_by_rule: cause })
  noteUnknown(work, 'auto-approval-refused', cause, row.source, { cause, code: row.code, facts })
}

function noteUnknown(
  work: Work,
  kind: EventKind,
  cause: string,
  source: string,
  detail: Record<string, unknown>,
): void {
  const event = { kind, cause, node: null, session: null, source, detail }
  work.afterCommit(() => work.context.refusals.record(event))
}

/**
 * The list is bounded, and so is what one machine has in it. When it is full, whoever has most of it makes room: who floods it
 * from one address, or from all of an IPv6 site, pushes out nobody else. Where nobody has more than one row, one that asks no
 * more makes room, and where there is none the newcomer is refused.
 */
async function makeRoom({ tx, now, context }: Work, machine: string, source: string): Promise<void> {
  const waiting = await listForRoom(tx)
  const alike = waiting.filter((row) => row.machine === machine)
  const since = addSeconds(now, -stillAskingSeconds).toISOString()
  const stale = alike.filter((row) => row.last_seen_at < since)
  const asking = alike.filter((row) => row.last_seen_at >= since)
  const gone = [...stale, ...asking.slice(0, Math.max(0, asking.length - maxAlike + 1))]
  const left = waiting.filter((row) => !gone.includes(row))
  if (left.length >= context.settings.maxPendingMachines) {
    const site = largest(left, siteUnit, source)
    const [row] = largest(site, countingUnit, source)
    const crowded = site.length > 1 || (row !== undefined && siteUnit(row.source) === siteUnit(source))
    const leaving = crowded ? row : left.find(({ last_seen_at }) => last_seen_at < since)
    if (leaving === undefined && left.length > 0)
      throw new PawlError('overloaded', 'the list of unknown machines is full, and all of them still ask', {
        hint: 'approve or reject those that wait, or raise maxPendingMachines',
        retryAfterSeconds: 30,
      })
    if (leaving !== undefined) gone.push(leaving)
  }
  await removePending(
    tx,
    gone.map((row) => row.code),
  )
}

/** The rows of whoever has most of them; of the asking one itself where nobody has more. */
function largest<Row extends { readonly source: string }>(
  rows: readonly Row[],
  unitOf: (source: string) => string,
  source: string,
): readonly Row[] {
  const byUnit = Map.groupBy(rows, (row) => unitOf(row.source))
  const own = byUnit.get(unitOf(source)) ?? []
  return [...byUnit.values()].reduce<readonly Row[]>((a, b) => (b.length > a.length ? b : a), own)
}

function fingerprintOf(machine: string, claim: string | undefined): string {
  return claim === undefined ? machine : createHash('sha256').update(`${machine} ${claim}`).digest('hex')
}

/** Crockford's alphabet without the letters that look like others; 10 characters of 5 bits are 50 bits. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'

function newCode(bytes: Uint8Array): string {
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  const digits = Array.from({ length: 10 }, (_, i) => alphabet[Number((bits >> BigInt(5 * i)) & 31n)])
  return `${digits.slice(0, 5).join('')}-${digits.slice(5).join('')}`
}
