import { isSingle } from '../domain/address.ts'
import type { NodeGround, NodePlan } from './fleet-nodes.ts'
import { type NodeSettings, placeWarning, sharedWarning } from './node-settings.ts'

/** What no node can be told by itself: profiles that are not there, what two nodes cannot share, what they had better not. */
export function checkTogether(
  plan: NodePlan,
  { profiles }: NodeGround,
  will: ReadonlyMap<string, NodeSettings>,
): void {
  const macs = new Map<string, string>()
  const uuids = new Map<string, string>()
  const holders = new Map<string, string[]>()
  const serials = new Map<string, string[]>()
  for (const [name, { macs: own, uuid, serial, addresses }] of will) {
    for (const mac of own) if (!isChanged(plan, name)) macs.set(mac, name)
    if (uuid !== null && !isChanged(plan, name)) uuids.set(uuid, name)
    for (const range of addresses) if (isSingle(range)) push(holders, range.address, name)
    if (serial !== null) push(serials, serial, name)
  }
  const there = [...profiles.keys()].sort().slice(0, 20).join(', ')
  const hint =
    profiles.size === 0 ? 'there are none yet' : `there are: ${there}${profiles.size > 20 ? ', …' : ''}`
  for (const { name, action } of plan.changes) {
    const settings = will.get(name)
    if (settings === undefined) continue
    const { profile, macs: own, uuid } = settings
    const fault = (field: string, code: 'not-found' | 'exists', message: string, hint: string): void => {
      plan.faults.push({ kind: 'node', name, field, code, message, hint })
    }
    if (profile !== null && !profiles.has(profile))
      fault('profile', 'not-found', `profile "${profile}" does not exist`, hint)
    for (const mac of own) {
      const other = macs.get(mac)
      if (other !== undefined && other !== name)
        fault('macs', 'exists', `MAC address ${mac} belongs to node "${other}"`, 'take it from there first')
      else macs.set(mac, name)
    }
    if (uuid !== null) {
      const other = uuids.get(uuid)
      if (other !== undefined && other !== name)
        fault('uuid', 'exists', `UUID ${uuid} belongs to node "${other}"`, 'take it from there first')
      else uuids.set(uuid, name)
    }
    if (action === 'remove') continue
    const relies = profile !== null && profiles.get(profile) === true ? profile : undefined
    warnShared(plan, name, settings, relies, { holders, serials })
  }
}

function warnShared(
  plan: NodePlan,
  name: string,
  settings: NodeSettings,
  relies: string | undefined,
  others: {
    readonly holders: ReadonlyMap<string, readonly string[]>
    readonly serials: ReadonlyMap<string, readonly string[]>
  },
): void {
  const warn = (message: string): void => {
    plan.warnings.push({ kind: 'node', name, message })
  }
  const { addresses, serial } = settings
  for (const { address } of addresses) {
    const other = others.holders.get(address)?.find((holder) => holder !== name)
    if (other !== undefined) warn(sharedWarning(other, address, relies))
  }
  if (relies !== undefined && !addresses.some(isSingle)) warn(placeWarning(settings, relies))
  const same = serial === null ? undefined : others.serials.get(serial)?.find((holder) => holder !== name)
  if (same !== undefined)
    warn(`node "${same}" has serial number ${serial} too: facts with it alone select no node`)
}

const changedNames = new WeakMap<NodePlan, Set<string>>()

function isChanged(plan: NodePlan, name: string): boolean {
  const names = changedNames.get(plan) ?? new Set(plan.changes.map((one) => one.name))
  changedNames.set(plan, names)
  return names.has(name)
}

function push(map: Map<string, string[]>, key: string, name: string): void {
  const names = map.get(key)
  if (names === undefined) map.set(key, [name])
  else names.push(name)
}
