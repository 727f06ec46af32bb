import { parseAddressRange } from '../../domain/address.ts'
import {
  parseLabels,
  parseMac,
  parseNodeName,
  parseSerial,
  parseSystemUuid,
  quote,
} from '../../domain/node.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import type { FleetExport } from '../answers.ts'
import type { FleetFile } from '../fleet-yaml.ts'

/** What was found of a machine in another system, not checked yet. Where: its file and line, or its record. */
export interface Candidate {
  readonly where: string
  readonly name: string
  readonly addresses?: readonly string[]
  readonly macs?: readonly string[]
  readonly uuid?: string | undefined
  readonly serial?: string | undefined
  readonly profile?: string | undefined
  readonly labels?: Readonly<Record<string, string>>
}

/** What became of one machine of another system. */
export interface Outcome {
  /** Its file and line, or its record. */
  readonly record: string
  /** The node that it became; null where it became none. */
  readonly node: string | null
  readonly profile: string | null
  /** What of it is not in the fleet files, and why. */
  readonly notKept: readonly string[]
}

/** What an importer made: fleet files, and everything that has no place in them. */
export interface Imported {
  readonly fleet: FleetExport
  readonly warnings: readonly string[]
  /** Those of them that are of no machine. */
  readonly remarks: readonly string[]
  readonly records: readonly Outcome[]
  /** What goes beside the fleet files. */
  readonly beside?: readonly FleetFile[]
}

type Node = FleetExport['nodes'][number]

/** More machines than one apply takes are not read: `pawl apply` would refuse them. */
export const maxNodes = 20_000

/**
 * Gathers machines into nodes that `pawl diff` takes. What is not of the right form, or belongs to a machine before, is left
 * out with a warning; a machine without a name that can be one is left out whole.
 */
export class Gathering {
  readonly nodes: Node[] = []
  readonly warnings: string[] = []
  readonly #remarks: string[] = []
  readonly #taken = new Map<string, string>()
  readonly #records = new Map<string, { node: Node | undefined; notKept: string[] }>()

  /** All that was gathered, with the profiles that go with it. */
  imported(profiles: FleetExport['profiles']): Imported {
    const records = [...this.#records].map(([record, { node, notKept }]) => {
      const { name = null, profile = null } = node ?? {}
      return { record, node: name, profile, notKept }
    })
    const fleet = { nodes: this.nodes, profiles, channels: [], extensions: [] }
    return { fleet, warnings: this.warnings, remarks: this.#remarks, records }
  }

  /** The node that a machine became; undefined where it became none. */
  add(candidate: Candidate): Node | undefined {
    const { where } = candidate
    const name = this.#keep(where, () => parseNodeName(candidate.name.toLowerCase()))
    if (name === undefined || !this.#take('name', name, where)) return undefined
    if (this.nodes.length >= maxNodes) throw new PawlError('too-large', `more than ${maxNodes} machines`)
    const all = <T>(values: readonly string[] | undefined, read: (text: string) => T): T[] =>
      (values ?? [])
        .map((value) => this.#keep(where, () => read(value)))
        .filter((value) => value !== undefined)
    const addresses = all(candidate.addresses, (text) => {
      parseAddressRange(text)
      return text
    })
    const macs = all(candidate.macs, parseMac).filter((mac) => this.#take('MAC address', mac, where))
    const uuid = all(candidate.uuid === undefined ? [] : [candidate.uuid], parseSystemUuid).filter((one) =>
      this.#take('UUID', one, where),
    )[0]
    const [serial] = all(candidate.serial === undefined ? [] : [candidate.serial], parseSerial)
    const labels = this.#labels(where, candidate.labels ?? {})
    const node: Node = {
      name,
      ...(addresses.length === 0 ? {} : { addresses: [...new Set(addresses)] }),
      ...(macs.length === 0 ? {} : { macs }),
      ...(uuid === undefined ? {} : { uuid }),
      ...(serial === undefined ? {} : { serial }),
      ...(candidate.profile === undefined ? {} : { profile: candidate.profile }),
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
    }
    this.nodes.push(node)
    this.#record(where).node = node
    return node
  }

  /** Says what of a machine is not kept, and why. */
  warn(where: string, message: string): void {
    this.warnings.push(`${where}: ${message}`)
    this.#record(where).notKept.push(message)
  }

  /** The same of what is no machine: a file, a column, a profile. */
  warnOf(where: string, message: string): void {
    this.warnings.push(`${where}: ${message}`)
    this.#remarks.push(`${where}: ${message}`)
  }

  #record(where: string): { node: Node | undefined; notKept: string[] } {
    const known = this.#records.get(where) ?? { node: undefined, notKept: [] }
    this.#records.set(where, known)
    return known
  }

  #labels(where: string, labels: Readonly<Record<string, string>>): Record<string, string> {
    const kept = Object.entries(labels).filter(
      ([key, value]) => this.#keep(where, () => parseLabels({ [key]: value })) !== undefined,
    )
    if (kept.length > 32)
      this.warn(where, `${kept.length} labels are above the limit of 32: the others are left out`)
    return Object.fromEntries(kept.slice(0, 32))
  }

  /** What `read` makes of a value; undefined with a warning where it is refused. */
  #keep<T>(where: string, read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!isPawlError(error, 'invalid')) throw error
      this.warn(where, `${error.message}: left out`)
      return undefined
    }
  }

  #take(what: string, value: string, where: string): boolean {
    const before = this.#taken.get(`${what} ${value}`)
    if (before !== undefined) this.warn(where, `${what} ${value} is that of ${before} already: left out`)
    else this.#taken.set(`${what} ${value}`, where)
    return before === undefined
  }
}

/** Text of another system as a profile's name: `etcd-Proxy v1` becomes `etcd-proxy-v1`. */
export function asProfileName(text: string): string {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 63)
    .replace(/-+$/, '')
  if (name !== '') return name
  throw new PawlError('invalid', `${quote(text)} cannot be made a name`)
}

/** A JSON object's member that is a text; undefined where it is none, or empty. */
export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value.trim() !== '' ? value.trim() : undefined
}

/** Whether a value is a JSON object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
