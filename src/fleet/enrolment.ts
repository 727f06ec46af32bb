import type { BootContext } from '../boot/context.ts'
import { type Facts, macOf, uuidOf } from '../domain/facts.ts'
import { parseNodeName, parseSerial, quote } from '../domain/node.ts'
import { advance, nodeTransitions } from '../domain/state.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { listPending as listRows, rejectPending, takePending } from '../storage/pending.ts'
import type { PendingMachineRow } from '../storage/tables.ts'
import { type By, type Change, change } from './change.ts'
import { noSettings, shown, withChanges } from './node-settings.ts'
import { addNodeIn, type ChangedNode, refuseExisting } from './nodes.ts'

/** A machine that waits for an operator. What it says of itself proves nothing: the code on its console does. */
export interface PendingMachine {
  readonly code: string
  readonly facts: Facts
  readonly source: string
  readonly firstSeenAt: string
  readonly lastSeenAt: string
  readonly expiresAt: string
}

/** What a machine becomes. */
export interface Approval {
  readonly name: string
  readonly profile: string
}

/** Lists the machines that wait, the longest waiting first. */
export async function listPending(context: BootContext): Promise<PendingMachine[]> {
  return (await listRows(context.storage.db, context.clock())).map(viewOf)
}

/**
 * Makes a waiting machine a node, with the MAC address, UUID and serial number it told. Its address is registered where
 * the profile asks for that evidence. Of two who approve at once, one gets it.
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
    const facts = readFacts(machine)
    const evidence = await evidenceOf(change.tx, approval.profile)
    const settings = withChanges(noSettings, {
      profile: approval.profile,
      macs: [macOf(facts)].filter((mac) => mac !== undefined),
      uuid: uuidOf(facts) ?? null,
      serial: serialOf(facts),
      addresses: evidence.has('address') ? [machine.source] : [],
    })
    const added = await addNodeIn(
      change,
      name,
      settings,
      advance(nodeTransitions, 'discovered', 'approve', code),
    )
    await change.note('machine-approved', name, { code: machine.code, facts, ...shown(settings) })
    return { node: added.node, warnings: [...added.warnings, ...hintsFor(name, machine, evidence)] }
  })
}

/** Turns a waiting machine away: it is listed no more, and goes on showing its code to nobody's use. */
export function rejectMachine(context: BootContext, by: By, code: string): Promise<void> {
  return change(context, by, async (change: Change) => {
    const machine = await rejectPending(change.tx, readCode(code), change.now)
    if (machine === undefined) throw noSuchCode(code)
    const { source } = machine
    await change.note('machine-rejected', null, {
      code: machine.code,
      facts: readFacts(machine),
      machine: source,
    })
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
function serialOf(facts: Facts): string | null {
  const unset = /^(0+|none|not specified|default string|system serial number|to be filled by o\.?e\.?m\.?)$/i
  if (facts.serial === undefined || unset.test(facts.serial)) return null
  try {
    return parseSerial(facts.serial)
  } catch {
    return null
  }
}

function hintsFor(name: string, machine: PendingMachineRow, evidence: ReadonlySet<string>): string[] {
  return [
    ...(evidence.has('address')
      ? [`address ${machine.source} was registered as the node's, since its profile asks for it`]
      : []),
    ...(evidence.has('secret')
      ? [`its profile asks for the enrolment secret: issue it with pawl node secret ${name}`]
      : []),
  ]
}

function noSuchCode(code: string): PawlError {
  return new PawlError('not-found', `no machine waits under code ${quote(code)}`, {
    hint: 'codes live an hour from the last time the machine asked; list them with pawl node pending',
  })
}

function readFacts(machine: PendingMachineRow): Facts {
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
  }
}
