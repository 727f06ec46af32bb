import { type MacAddress, parseMac, parseSystemUuid, type SystemUuid } from './node.ts'

/** The names a node may tell about itself at stage 1 (ePoxy's, and ours for the boot NIC). Others are ignored. */
export const factNames = [
  'platform',
  'buildarch',
  'serial',
  'asset',
  'uuid',
  'manufacturer',
  'product',
  'chip',
  'mac',
  'ip',
  'netmask',
  'gateway',
  'dns',
  'dhcp',
  'ip6',
  'len6',
  'gateway6',
  'dns6',
  'slaac6',
  'dhcp6',
  'vlan',
  'version',
  'public_ssh_host_key',
] as const

export type FactName = (typeof factNames)[number]

/** What a machine says of itself: a hint which node it is, never a proof. Empty values are left out. */
export type Facts = Readonly<Partial<Record<FactName, string>>>

/** The longest value of a fact; an SSH host key in RSA-4096 has 724 characters, the rest are far shorter. */
export const maxFactLength = (name: FactName): number => (name === 'public_ssh_host_key' ? 1024 : 256)

/** What was wrong with one fact. */
export interface BadFact {
  readonly name: FactName
  readonly reason: string
}

/** Reads facts from query or form fields. The first bad one is returned instead: nothing is half-taken. */
export function parseFacts(fields: Readonly<Record<string, unknown>>): { facts: Facts } | { bad: BadFact } {
  const facts: Partial<Record<FactName, string>> = {}
  for (const name of factNames) {
    const value = fields[name]
    if (value === undefined || value === '') continue
    const reason = faultOf(name, value)
    if (reason !== undefined) return { bad: { name, reason } }
    facts[name] = normalise(name, value as string) // faultOf has checked that it is a string
  }
  return { facts }
}

function faultOf(name: FactName, value: unknown): string | undefined {
  if (typeof value !== 'string') return 'was given more than once'
  if (value.length > maxFactLength(name)) return `is longer than ${maxFactLength(name)} characters`
  // iPXE sign-extends bytes above 0x7f ("%FFFFFFC3"): such a value cannot be trusted to mean anything.
  if (!/^[ -~]*$/.test(value)) return 'holds characters that are not printable ASCII'
  return undefined
}

/** One spelling for what is compared later. A value that is not of its form is kept as told: facts prove nothing. */
function normalise(name: FactName, value: string): string {
  const trimmed = value.trim()
  try {
    if (name === 'mac') return parseMac(trimmed)
    if (name === 'uuid') return parseSystemUuid(trimmed)
  } catch {
    return trimmed
  }
  return trimmed
}

/** The machine's own UUID, where its firmware has one. */
export function uuidOf(facts: Facts): SystemUuid | undefined {
  return wellFormed(facts.uuid, parseSystemUuid)
}

/** The MAC address of the NIC it boots from. */
export function macOf(facts: Facts): MacAddress | undefined {
  return wellFormed(facts.mac, parseMac)
}

function wellFormed<T>(value: string | undefined, parse: (text: string) => T): T | undefined {
  if (value === undefined) return undefined
  try {
    return parse(value)
  } catch {
    return undefined
  }
}

/**
 * Whether two sets of facts may be of one machine: judged by the strongest fact both tell (UUID, then serial, then MAC,
 * since a machine has several NICs but one UUID). Where they share none, nothing speaks against it.
 */
export function sameMachine(a: Facts, b: Facts): boolean {
  const uuids = [uuidOf(a), uuidOf(b)]
  if (uuids[0] !== undefined && uuids[1] !== undefined) return uuids[0] === uuids[1]
  if (a.serial !== undefined && b.serial !== undefined) return a.serial === b.serial
  const macs = [macOf(a), macOf(b)]
  return macs[0] === undefined || macs[1] === undefined || macs[0] === macs[1]
}

/** The facts that tell one machine from another. */
export const machineFactNames = ['uuid', 'serial', 'mac'] as const

/** Those that a machine tells. */
export function machineFacts(facts: Facts): Facts {
  return Object.fromEntries(
    machineFactNames.flatMap((name) => (facts[name] === undefined ? [] : [[name, facts[name]]])),
  )
}

/**
 * Whether this iPXE can check a digest in a script: `sha256sum --set` came with 2.0.0, and a build for BIOS, where every byte
 * counts, may be without the command (Debian's undionly.kpxe is).
 */
export function canVerifyDigests(facts: Facts): boolean {
  const major = /^(\d+)\./.exec(facts.version ?? '')?.[1]
  return major !== undefined && Number(major) >= 2 && facts.platform === 'efi'
}
