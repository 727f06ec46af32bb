import type { BootContext } from '../boot/context.ts'
import { type EnrolRequest, enrolIn, type RuleAnswer, readFacts as readTold } from '../boot/enrol.ts'
import { serveStage1 } from '../boot/serve-stage1.ts'
import { inTransaction, recordingRefusals } from '../boot/work.ts'
import { contains, parseAddressRange } from '../domain/address.ts'
import { nameByTemplate, type RuleRefusal } from '../domain/auto-approval.ts'
import { type Facts, macOf, uuidOf } from '../domain/facts.ts'
import { handsOutCredentials } from '../domain/profile.ts'
import { isPawlError } from '../errors.ts'
import {
  countUsed,
  isSerialUsed,
  lockRule,
  putRuleApproved,
  rulesWithSerial,
  useSerial,
} from '../storage/auto-approvals.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import type { AutoApprovalRow, PendingMachineRow } from '../storage/machine-tables.ts'
import { findNode, findNodeNames } from '../storage/nodes.ts'
import { type By, type Change, change } from './change.ts'
import { serialOf, takeIn } from './enrolment.ts'
import { shown } from './node-settings.ts'
import { readLabels } from './node-view.ts'

/**
 * Machines whose media names no node. The facts select one, and evidence proves it; where none fits, a rule may make the
 * machine a node, and else it waits for an operator. Rules run in the transaction of the machine's own request: of two that
 * tell one serial number at once, one is approved.
 */

/** Serves stage 1 to a machine without a name, or enrols it. */
export async function serveArrival(context: BootContext, request: EnrolRequest): Promise<string> {
  const answer = await serveStage1(context, { ...request, format: 'ipxe' })
  return answer?.body ?? enrolArrival(context, request)
}

/** Enrols a machine, by a rule where one fits. */
export function enrolArrival(context: BootContext, request: EnrolRequest): Promise<string> {
  return recordingRefusals(context, { ...request, host: undefined }, async () => {
    const facts = readTold(request)
    const by: By = { actor: 'server', source: request.source, role: 'operator' }
    try {
      return await change(context, by, (change) =>
        enrolIn(change, request, facts, (_work, machine) => approveByRule(change, machine, facts)),
      )
    } catch (error) {
      // A node took its name or facts at this very moment. It waits, and asks again in half a minute.
      if (!isPawlError(error, 'conflict') && !isPawlError(error, 'exists')) throw error
      return inTransaction(context, (work) => enrolIn(work, request, facts))
    }
  })
}

async function approveByRule(change: Change, machine: PendingMachineRow, facts: Facts): Promise<RuleAnswer> {
  const serial = serialOf(facts)
  if (serial === null) return undefined
  const told = { ...facts, serial }
  let refused: RuleRefusal | undefined
  for (const name of await rulesWithSerial(change.tx, serial)) {
    const rule = await lockRule(change.tx, change.context.storage.dialect, name)
    const fault = rule === undefined ? undefined : await faultOf(change, rule, machine, told)
    if (rule !== undefined && fault === undefined) return approve(change, rule, machine, told)
    refused ??= fault
  }
  return refused === undefined ? undefined : { refused }
}

type Told = Facts & { readonly serial: string }

/** Why this rule does not approve this machine; each thing that was checked when the rule was made is checked again. */
async function faultOf(
  change: Change,
  rule: AutoApprovalRow,
  { source }: PendingMachineRow,
  facts: Told,
): Promise<RuleRefusal | undefined> {
  const { tx, now } = change
  const sources = (JSON.parse(rule.sources) as string[]).map(parseAddressRange) // our own column
  if (!sources.some((range) => contains(range, source))) return 'outside-prefix'
  if (await isSerialUsed(tx, facts.serial)) return 'serial-used'
  if (rule.revoked_at !== null || rule.expires_at <= now.toISOString()) return 'rule-over'
  if ((await countUsed(tx, rule.name)) >= rule.max_nodes) return 'limit-reached'
  const profile = await findProfile(tx, rule.profile)
  if (profile === undefined) return 'profile-gone'
  const written = readProfile(profile)
  // Profiles that were stored by a Pawl of before do not say.
  if (handsOutCredentials(written) && written.acceptAutoApproved !== true) return 'profile-refuses'
  const known = await findNodeNames(tx, { mac: macOf(facts), uuid: uuidOf(facts), serial: facts.serial })
  if (known.length > 0) return 'node-known'
  const name = nameByTemplate(rule.node_name, facts)
  if (name === undefined) return 'name-unfit'
  return (await findNode(tx, name)) === undefined ? undefined : 'name-taken'
}

async function approve(
  change: Change,
  rule: AutoApprovalRow,
  machine: PendingMachineRow,
  facts: Told,
): Promise<RuleAnswer> {
  const { tx, now } = change
  const name = nameByTemplate(rule.node_name, facts)
  if (name === undefined) return { refused: 'name-unfit' satisfies RuleRefusal }
  const { source } = machine
  // The one statement that makes a serial number single-use; everything before it only says why not.
  if (!(await useSerial(tx, rule.name, facts.serial, { node: name, source, now })))
    return { refused: 'serial-used' satisfies RuleRefusal }
  const { settings } = await takeIn(change, machine, {
    name,
    profile: rule.profile,
    labels: readLabels(rule.labels),
  })
  const node = await findNode(tx, name)
  if (node !== undefined) await putRuleApproved(tx, node.id)
  await change.note('machine-auto-approved', name, {
    rule: rule.name,
    code: machine.code,
    machine: source,
    facts,
    ...shown(settings),
  })
  return { node: name }
}
