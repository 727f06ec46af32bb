import { parseMac } from '../domain/node.ts'
import { isPawlError, type PawlError } from '../errors.ts'
import type { FleetChannel, FleetExtension, FleetNode, FleetRequest } from '../fleet/fleet-plan.ts'
import { extensionWithValues, joinWithValues, profileWithValues, type ResolvedFrom } from './file-values.ts'
import type { FleetDocument, LoadedFleet } from './fleet-files.ts'
import type { YamlFile } from './yaml-file.ts'

type Path = readonly string[]
type Kind = Parameters<LoadedFleet['placeOf']>[0] | 'join'

/** Where a thing is described. */
interface Place {
  readonly yaml: YamlFile
  readonly path: Path
}

type Collected = Pick<LoadedFleet, 'fleet' | 'placeOf' | 'warnings'>
type WrittenProfile = FleetRequest['profiles'][number]

/**
 * Puts documents together: lists with their defaults, joins by their names, secrets from where they are. What is described
 * twice is a fault that names both places. Faults are added to those that are there already.
 */
export async function collectFleet(
  documents: readonly FleetDocument[],
  env: Readonly<Record<string, string | undefined>>,
  faults: PawlError[],
): Promise<Collected> {
  const places = openPlaces(faults)
  const warnings: string[] = []
  const nodes = documents.flatMap((document) => nodesOf(document, places))
  const channels = documents.flatMap((document) => channelsOf(document, places))
  const joins = new Map<string, { join: Record<string, unknown>; used: boolean; place: string }>()
  const resolvedFrom = ({ yaml, file }: FleetDocument): ResolvedFrom => ({
    yaml,
    file,
    env,
    faults,
    warnings,
  })
  for (const document of documents) {
    if (document.kind !== 'Join') continue
    const name = String(document.value.name)
    if (!places.take('join', name, { yaml: document.yaml, path: ['name'] })) continue
    const written = document.value.join as Record<string, unknown>
    const join = await joinWithValues(resolvedFrom(document), ['join'], written)
    joins.set(name, { join, used: false, place: document.yaml.place([]) })
  }
  const profiles: WrittenProfile[] = []
  const extensions: FleetExtension[] = []
  for (const document of documents) {
    const { kind, ...written } = document.value as Record<string, unknown>
    const place = { yaml: document.yaml, path: [] }
    if (kind === 'Profile' && places.take('profile', String(written.name), place)) {
      const named = (path: Path, name: string): unknown => joinOf(document, path, name)
      const profile = await profileWithValues(resolvedFrom(document), written, named)
      profiles.push(profile as WrittenProfile) // checked against its schema
    }
    if (kind === 'Extension' && places.take('extension', String(written.operation), place)) {
      const extension = await extensionWithValues(resolvedFrom(document), written)
      extensions.push(extension as unknown as FleetExtension) // as above
    }
  }
  for (const [name, { used, place }] of joins)
    if (!used) warnings.push(`${place}: join "${name}" is used by no profile of these files`)
  return { fleet: { nodes, profiles, channels, extensions }, placeOf: places.of, warnings }

  function joinOf({ yaml }: FleetDocument, path: Path, name: string): unknown {
    const known = joins.get(name)
    if (known === undefined) {
      const there = [...joins.keys()].join(', ')
      const hint = there === '' ? 'there is no document of kind Join' : `there are: ${there}`
      faults.push(yaml.fault([...path, 'from'], `${path.join('.')}.from: there is no join "${name}"`, hint))
      return { kind: 'none' }
    }
    known.used = true
    return known.join
  }
}

/** The nodes of a document: one, or a list in which each has the defaults that it does not set itself. */
function nodesOf({ kind, value, yaml, skip }: FleetDocument, places: Places): FleetNode[] {
  if (kind === 'Node') {
    const { kind: _, ...node } = value
    return takeNode(node as unknown as FleetNode, { yaml, path: [] }, places)
  }
  if (kind !== 'Nodes') return []
  const { defaults = {}, nodes } = value as unknown as { defaults?: Partial<FleetNode>; nodes: FleetNode[] }
  return nodes.flatMap((node, index) => {
    if (skip.has(String(index))) return []
    const labels = { ...defaults.labels, ...node.labels }
    const whole = { ...defaults, ...node, ...(Object.keys(labels).length === 0 ? {} : { labels }) }
    return takeNode(whole, { yaml, path: ['nodes', String(index)] }, places)
  })
}

function takeNode(node: FleetNode, place: Place, places: Places): FleetNode[] {
  if (!places.take('node', node.name, place)) return []
  for (const [index, mac] of (node.macs ?? []).entries()) {
    places.once(`MAC address ${spelled(mac)}`, node.name, {
      ...place,
      path: [...place.path, 'macs', String(index)],
    })
  }
  if (typeof node.uuid === 'string')
    places.once(`UUID ${node.uuid.toLowerCase()}`, node.name, { ...place, path: [...place.path, 'uuid'] })
  return [node]
}

/** One spelling, to compare; what is no MAC address the server tells. */
function spelled(mac: string): string {
  try {
    return parseMac(mac)
  } catch (error) {
    if (!isPawlError(error)) throw error
    return mac
  }
}

function channelsOf({ kind, value, yaml }: FleetDocument, places: Places): FleetChannel[] {
  if (kind !== 'Channel') return []
  const { kind: _, name, ...rest } = value
  if (!places.take('channel', String(name), { yaml, path: [] })) return []
  return [{ channel: String(name), ...rest }]
}

interface Places {
  /** Takes the name for the thing at a place; false where it was taken, which is a fault. */
  take(kind: Kind, name: string, place: Place): boolean
  /** Takes what only one node can have. */
  once(what: string, node: string, place: Place): void
  of: LoadedFleet['placeOf']
}

function openPlaces(faults: PawlError[]): Places {
  const known = new Map<string, Place>()
  const claim = (key: string, what: string, { yaml, path }: Place): boolean => {
    const before = known.get(key)
    if (before !== undefined) {
      faults.push(yaml.fault(path, `${what} is at ${before.yaml.place(before.path)} too`))
      return false
    }
    known.set(key, { yaml, path })
    return true
  }
  return {
    take: (kind, name, place) => claim(`${kind} ${name}`, `${kind} "${name}"`, place),
    once: (what, node, place) => void claim(`= ${what}`, `${what} of node "${node}"`, place),
    of: (kind, name, field) => {
      const place = known.get(`${kind} ${name}`)
      const [first, ...rest] = field?.split('.') ?? []
      const inner = first === undefined ? [] : rest.length === 0 ? [first] : [first, rest.join('.')]
      return place?.yaml.place([...place.path, ...inner])
    },
  }
}
