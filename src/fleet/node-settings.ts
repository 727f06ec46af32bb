import { type AddressRange, isSingle, parseNodeAddress } from '../domain/address.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { type Labels, parseLabels, parseMac, parseSerial, parseSystemUuid } from '../domain/node.ts'
import { reliesOnAddress } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'
import { findProfile, findSharers, listProfiles, readProfile } from '../storage/fleet.ts'
import { findNodeNames, type NodeRecord, setAddresses, setMacs } from '../storage/nodes.ts'
import { type Change, noSuchProfile } from './change.ts'
import { readLabels, writeAddress } from './node-view.ts'
import { remedy } from './shared-addresses.ts'

/** What operators set of a node. */
export interface NodeSettings {
  readonly addresses: readonly AddressRange[]
  readonly macs: readonly string[]
  readonly uuid: string | null
  readonly serial: string | null
  readonly profile: string | null
  readonly labels: Labels
}

/** Settings as they are asked for: what is left out stays, null clears, lists are replaced, labels are merged. */
export interface NodeChanges {
  readonly addresses?: readonly string[]
  readonly macs?: readonly string[]
  readonly uuid?: string | null
  readonly serial?: string | null
  readonly profile?: string | null
  readonly labels?: Readonly<Record<string, string | null>>
}

/** The settings of a node that nothing was said about. */
export const noSettings: NodeSettings = {
  addresses: [],
  macs: [],
  uuid: null,
  serial: null,
  profile: null,
  labels: {},
}

/** A node's settings as they are. */
export function settingsOf(node: NodeRecord): NodeSettings {
  const { addresses, macs, uuid, serial, profile } = node
  return { addresses, macs, uuid, serial, profile, labels: readLabels(node.labels) }
}

/** The settings with the changes asked for; throws `invalid` naming the first bad value. */
export function withChanges(settings: NodeSettings, changes: NodeChanges): NodeSettings {
  const { addresses, macs, uuid, serial, profile, labels } = changes
  return {
    addresses: addresses === undefined ? settings.addresses : unique(addresses.map(parseNodeAddress)),
    macs: macs === undefined ? settings.macs : unique(macs.map(parseMac)),
    uuid: uuid === undefined ? settings.uuid : parseUnlessNull(uuid, parseSystemUuid),
    serial: serial === undefined ? settings.serial : parseUnlessNull(serial, parseSerial),
    profile: profile === undefined ? settings.profile : profile,
    labels: labels === undefined ? settings.labels : mergeLabels(settings.labels, labels),
  }
}

/** What differs between two settings, for the record: only those that changed. */
export function difference(
  before: NodeSettings,
  after: NodeSettings,
): { before: Record<string, unknown>; after: Record<string, unknown> } | undefined {
  const [old, now] = [shown(before), shown(after)]
  const changed = Object.keys(old).filter((key) => canonicalJson(old[key]) !== canonicalJson(now[key]))
  if (changed.length === 0) return undefined
  const pick = (from: Record<string, unknown>): Record<string, unknown> =>
    Object.fromEntries(changed.map((key) => [key, from[key]]))
  return { before: pick(old), after: pick(now) }
}

/** Settings for the record and for answers: addresses as text. */
export function shown(settings: NodeSettings): Record<string, unknown> {
  return { ...settings, addresses: settings.addresses.map(writeAddress) }
}

/** Refuses settings that name a profile that is not there, or a MAC address or UUID that another node has. */
export async function checkSettings({ tx }: Change, name: string, settings: NodeSettings): Promise<void> {
  if (settings.profile !== null && (await findProfile(tx, settings.profile)) === undefined) {
    const existing = await listProfiles(tx)
    throw noSuchProfile(
      settings.profile,
      existing.map((row) => row.name),
    )
  }
  for (const mac of settings.macs) refuseTaken(name, `MAC address ${mac}`, await findNodeNames(tx, { mac }))
  const { uuid } = settings
  if (uuid !== null) refuseTaken(name, `UUID ${uuid}`, await findNodeNames(tx, { uuid }))
}

/** Writes the lists that are kept beside a node's row. */
export async function writeLists({ tx }: Change, id: string, settings: NodeSettings): Promise<void> {
  await setAddresses(tx, id, settings.addresses)
  await setMacs(tx, id, settings.macs)
}

/** What is accepted, but will not do what it seems to: evidence that two nodes share proves neither. */
export async function warningsOf(
  { tx }: Change,
  node: { id: string; name: string },
  settings: NodeSettings,
): Promise<string[]> {
  const single = settings.addresses.filter(isSingle).map((range) => range.address)
  const sharers = await findSharers(tx, node.id, single)
  const relies = await reliesOn(tx, settings.profile)
  const warnings = sharers.map((other) => sharedWarning(other.name, other.address, relies))
  if (relies !== undefined && single.length === 0) warnings.push(placeWarning(settings, relies))
  const { serial } = settings
  const same = serial === null ? [] : await findNodeNames(tx, { serial })
  const others = same.filter((name) => name !== node.name)
  if (others.length > 0) {
    warnings.push(`node "${others[0]}" has serial number ${serial} too: facts with it alone select no node`)
  }
  return warnings
}

/** The profile's name, where its nodes are proved by their address alone. */
async function reliesOn(tx: Change['tx'], profile: string | null): Promise<string | undefined> {
  const row = profile === null ? undefined : await findProfile(tx, profile)
  return row !== undefined && reliesOnAddress(readProfile(row)) ? row.name : undefined
}

/** An address that another node has too; `relies` is the profile that asks for nothing else. */
export function sharedWarning(other: string, address: string, relies: string | undefined): string {
  const nothing = `node "${other}" has address ${address} too: it proves nothing alone`
  if (relies === undefined) return nothing
  return `${nothing}, and profile "${relies}" asks for nothing else: boots from it are refused. ${remedy}`
}

/** No address at all, or only prefixes, where one address is to be the proof. */
export function placeWarning({ addresses }: NodeSettings, relies: string): string {
  const what = addresses.length === 0 ? 'no address is registered' : 'a prefix is a place and proves nothing'
  return `${what}, and profile "${relies}" asks for nothing else: boots are refused`
}

function refuseTaken(name: string, what: string, holders: readonly string[]): void {
  const other = holders.find((holder) => holder !== name)
  if (other === undefined) return
  throw new PawlError('exists', `${what} belongs to node "${other}"`, {
    hint: `take it from there first, or use another name for this machine than "${name}"`,
  })
}

function mergeLabels(labels: Labels, changes: Readonly<Record<string, string | null>>): Labels {
  const merged = Object.entries({ ...labels, ...changes })
  return parseLabels(
    Object.fromEntries(merged.filter((entry): entry is [string, string] => entry[1] !== null)),
  )
}

function parseUnlessNull(value: string | null, parse: (text: string) => string): string | null {
  return value === null ? null : parse(value)
}

/** In one order and each once, so that the same settings compare equal. */
function unique<T>(values: readonly T[]): T[] {
  if (values.length < 2) return [...values]
  const byText = new Map(values.map((value) => [canonicalJson(value), value]))
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value)
}
