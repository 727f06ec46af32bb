import { claimOf } from '../boot/claim.ts'
import type { BootContext } from '../boot/context.ts'
import { contains } from '../domain/address.ts'
import { addSeconds } from '../domain/clock.ts'
import { type Facts, macOf, uuidOf } from '../domain/facts.ts'
import { type Labels, parseNodeName, parseSerial, quote } from '../domain/node.ts'
import { advance, nodeTransitions } from '../domain/state.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import type { PendingMachineRow } from '../storage/machine-tables.ts'
import { findNode } from '../storage/nodes.ts'
import { listPending as listRows, putClaim, rejectPending, takePending } from '../storage/pending.ts'
import { type By, type Change, change } from './change.ts'
import { type NodeSettings, noSettings, shown, withChanges } from './node-settings.ts'
import { addNodeIn, type ChangedNode, refuseExisting } from './nodes.ts'

/** A machine that waits for an operator. What it says of itself proves nothing: the code on its console does. */
export interface PendingMachine {
  readonly code: string
  readonly facts: Facts
  readonly source: string
  readonly firstSeenAt: string
  readonly lastSeenAt: string
  /** When the code is forgotten if the machine asks no more; of one that was turned away: until when it is. */
  readonly expiresAt: string
  readonly rejected: boolean
  /** Whether its first boot can prove itself by what only its console's script was given. */
  readonly claim: boolean
  /** Why no rule approved it, though one has its serial number. */
  readonly notByRule: string | null
}

/** What a machine becomes. */
export interface Approval {
  readonly name: string
  readonly profile: string
  readonly labels?: Labels
  /** Its addresses, in place of the one that it asks from. */
  readonly addresses?: readonly string[]
}

/** How long a machine is turned away, if nobody says: a day. */
export const rejectedSeconds = 86_400
const maxRejectedSeconds = 365 * 86_400

/** Lists the machines that wait, or those that were turned away, the longest waiting first. */
export async function listPending(context: BootContext, rejected = false): Promise<PendingMachine[]> {
  return (await listRows(context.storage.db, context.clock(), rejected)).map(viewOf)
}

/**
 * Makes a waiting machine a node, with the MAC address, UUID and serial number it told. Its address is registered where
 * the profile asks for that evidence and none is given. Of two who approve at once, one gets it.
 */
export async function approveMachine(
  context: BootContext,
  by: By,
  code: string,
  approval: Approval,
): Promise<ChangedNode> {
  const name = parseNodeName(approval.name)
  return change(context, by, async (change) => {
    const machine = await takePending(change.tx, readCode(code), change.now)
    if (machine === undefined) throw noSuchCode(code)
    await refuseExisting(change, name)
    const taken = await takeIn(change, machine, { ...approval, name })
    await change.note('machine-approved', name, {
      code: machine.code,
      facts: readFacts(machine),
      ...shown(taken.settings),
    })
    return { node: taken.node, warnings: taken.warnings }
  })
}

/** A machine as a node, before its event. */
export interface Taken extends ChangedNode {
  readonly settings: NodeSettings
}

/** Makes a machine a node inside a change: what it told is registered, and its claim proves it until its first boot is on. */
export async function takeIn(change: Change, machine: PendingMachineRow, approval: Approval): Promise<Taken> {
  const facts = readFacts(machine)
  const evidence = await evidenceOf(change.tx, approval.profile)
  const byAddress = evidence.has('address') && approval.addresses === undefined
  const settings = withChanges(noSettings, {
    profile: approval.profile,
    macs: [macOf(facts)].filter((mac) => mac !== undefined),
    uuid: uuidOf(facts) ?? null,
    serial: serialOf(facts),
    addresses: approval.addresses ?? (byAddress ? [machine.source] : []),
    labels: approval.labels ?? {},
  })
  if (settings.macs.length === 0 && settings.uuid === null && settings.serial === null) {
    throw new PawlError('conflict', 'this machine tells no MAC address, UUID or serial number', {
      hint: 'it could not be told from others when it asks again: add a node, and give it media of its own',
    })
  }
  const state = advance(nodeTransitions, 'discovered', 'approve', machine.code)
  const { node, warnings } = await addNodeIn(change, approval.name, settings, state)
  const claimed = evidence.has('secret') && (await leaveClaim(change, approval.name, machine))
  return {
    node,
    settings,
    warnings: [
      ...warnings,
      ...hintsFor(machine, settings, evidence),
      ...secretHints(approval.name, evidence, claimed),
      ...certificateHints(approval.name, evidence),
    ],
  }
}

async function leaveClaim(change: Change, name: string, machine: PendingMachineRow): Promise<boolean> {
  const node = await findNode(change.tx, name)
  const { enrolmentLifetimeSeconds } = change.context.settings
  const claim =
    node === undefined ? undefined : claimOf(node.id, machine, change.now, enrolmentLifetimeSeconds)
  if (claim === undefined) return false
  await putClaim(change.tx, claim)
  return true
}

/** Turns a waiting machine away for a time: it is listed no more, its console says so, and it asks rarely. */
export async function rejectMachine(
  context: BootContext,
  by: By,
  code: string,
  forSeconds: number = rejectedSeconds,
): Promise<PendingMachine> {
  if (!Number.isSafeInteger(forSeconds) || forSeconds < 60 || forSeconds > maxRejectedSeconds)
    throw new PawlError('invalid', 'a machine is turned away for 60 s to 365 days')
  return change(context, by, async (change: Change) => {
    const until = addSeconds(change.now, forSeconds)
    const machine = await rejectPending(change.tx, readCode(code), change.now, until)
    if (machine === undefined) throw noSuchCode(code)
    await change.note('machine-rejected', null, {
      code: machine.code,
      facts: readFacts(machine),
      machine: machine.source,
      until: until.toISOString(),
    })
    return viewOf(machine)
  })
}

/** Codes are read from a console and typed: case does not matter, nor how they are grouped. */
function readCode(code: string): string {
  const characters = code.toLowerCase().replace(/[^0-9a-z]/g, '')
  return `${characters.slice(0, 5)}-${characters.slice(5)}`
}

async function evidenceOf(db: Queries, profile: string): Promise<ReadonlySet<string>> {
  const row = await findProfile(db, profile)
  if (row === undefined) return new Set() // the profile's absence is refused where the node is added
  const { evidence, reinstall } = readProfile(row)
  return new Set([...evidence.boot, ...(reinstall === undefined ? [] : evidence.reinstall)])
}

/** A serial number that firmware makers left unset is told by too many machines to register it. */
export function serialOf(facts: Facts): string | null {
  if (facts.serial === undefined || isUnsetSerial(facts.serial)) return null
  try {
    return parseSerial(facts.serial)
  } catch {
    return null
  }
}

/** Whether a serial number is what firmware says where its maker wrote none. */
export function isUnsetSerial(serial: string): boolean {
  return /^(0+|none|not specified|default string|system serial number|to be filled by o\.?e\.?m\.?)$/i.test(
    serial,
  )
}

function hintsFor(
  machine: PendingMachineRow,
  settings: NodeSettings,
  evidence: ReadonlySet<string>,
): string[] {
  const from = machine.source
  const wrongAddress = evidence.has('address') && !settings.addresses.some((range) => contains(range, from))
  if (wrongAddress)
    return [`it asks from ${from}, which is none of these addresses: its profile will refuse it there`]
  if (!evidence.has('address')) return []
  return [`address ${from} was registered as the node's, since its profile asks for it`]
}

function secretHints(name: string, evidence: ReadonlySet<string>, claimed: boolean): string[] {
  if (!evidence.has('secret')) return []
  return claimed
    ? [
        `its first boot goes on by itself; every later one needs media with its secret: pawl node secret ${name}`,
      ]
    : [`its profile asks for the enrolment secret: issue it with pawl node secret ${name}`]
}

/** A claim stands in for a secret, never for a certificate: without one the first boot ends at stage 2. */
function certificateHints(name: string, evidence: ReadonlySet<string>): string[] {
  if (!evidence.has('certificate')) return []
  return [`its profile asks for a client certificate: pawl node certificate issue ${name} --out client.pem`]
}

function noSuchCode(code: string): PawlError {
  return new PawlError('not-found', `no machine waits under code ${quote(code)}`, {
    hint: 'codes live an hour from the last time the machine asked; list them with pawl node pending',
  })
}

/** What a waiting machine told. */
export function readFacts(machine: PendingMachineRow): Facts {
  return JSON.parse(machine.facts) as Facts // our own column, written from parseFacts
}

function viewOf(machine: PendingMachineRow): PendingMachine {
  return {
    code: machine.code,
    facts: readFacts(machine),
    source: machine.source,
    firstSeenAt: machine.first_seen_at,
    lastSeenAt: machine.last_seen_at,
    expiresAt: machine.expires_at,
    rejected: machine.rejected === 1,
    claim: machine.claim_hash !== null,
    notByRule: machine.not_by_rule,
  }
}
