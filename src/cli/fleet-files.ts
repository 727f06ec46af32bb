import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { type DocumentKind, documentSchemas } from '../domain/fleet-file.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { FleetRequest } from '../fleet/fleet-plan.ts'
import type { FleetPlan } from './answers.ts'
import { collectFleet } from './fleet-documents.ts'
import { faultsOf } from './schema-faults.ts'
import { nameOf, parseYaml, readBytes, type YamlFile } from './yaml-file.ts'

/** What files say of a fleet, ready to be sent. */
export interface LoadedFleet {
  readonly fleet: Required<Pick<FleetRequest, 'nodes' | 'profiles' | 'channels' | 'extensions'>>
  /** The digest of the files' bytes, whatever their names. */
  readonly files: string
  /** How many files were read. */
  readonly count: number
  readonly warnings: readonly string[]
  /** `FILE:LINE:COLUMN` of a thing, or of a field of it. */
  placeOf(kind: FleetPlan['changes'][number]['kind'], name: string, field: string | null): string | undefined
}

/** One document, with its kind found out. */
export interface FleetDocument {
  readonly kind: DocumentKind
  readonly yaml: YamlFile
  readonly value: Readonly<Record<string, unknown>>
  /** The file, as it was named. */
  readonly file: string
  /** Which nodes of its list have faults: the others are looked at further. */
  readonly skip: ReadonlySet<string>
}

/** Where files are read from. */
export interface FleetSources {
  readonly stdin: Readable
  readonly env: Readonly<Record<string, string | undefined>>
}

const limits = { fileBytes: 8 * 1024 * 1024, allBytes: 64 * 1024 * 1024, files: 5000, documents: 50_000 }

/** The faults of files, all of them; what it throws is the last one told. */
export class FileFaults extends Error {
  readonly faults: readonly PawlError[]

  constructor(faults: readonly PawlError[]) {
    super(faults[0]?.message)
    this.faults = faults
  }
}

/**
 * Reads the files of a fleet: each `-f` is a file, a folder with everything ending in .yaml or .yml below it, or `-`. Throws
 * `FileFaults` with everything that is wrong with them.
 */
export async function loadFleet(named: readonly string[], sources: FleetSources): Promise<LoadedFleet> {
  if (named.filter((one) => one === '-').length > 1)
    throw new PawlError('usage', 'stdin can be read once only')
  const files = (await Promise.all(named.map(filesOf))).flat()
  if (files.length > limits.files)
    throw new PawlError('too-large', `${files.length} files are above the limit of ${limits.files}`)
  const faults: PawlError[] = []
  const documents: FleetDocument[] = []
  const hashes: string[] = []
  let bytes = 0
  for (const file of new Set(files)) {
    try {
      const content = await readBytes(file, sources.stdin, limits.fileBytes)
      bytes += content.length
      if (bytes > limits.allBytes)
        throw new PawlError('too-large', 'the files are larger than 64 MiB together')
      hashes.push(createHash('sha256').update(content).digest('hex'))
      const yaml = parseYaml(nameOf(file), content)
      faults.push(...yaml.faults)
      for (const document of yaml.documents) documents.push(...checked(document, file, faults))
    } catch (error) {
      if (!isPawlError(error) || error.code === 'too-large') throw error
      faults.push(error)
    }
  }
  const { fleet, placeOf, warnings } = await collectFleet(documents, sources.env, faults)
  if (faults.length > 0) throw new FileFaults(faults)
  const digest = createHash('sha256').update(hashes.sort().join('\n')).digest('hex')
  return { fleet, files: `sha256:${digest}`, count: hashes.length, warnings, placeOf }
}

/** The files that one `-f` means, in order of their paths. Hidden ones are left out, as `ls` does. */
async function filesOf(named: string): Promise<string[]> {
  if (named === '-' || !(await isFolder(named))) return [named]
  const found: string[] = []
  await walk(named, found, 0)
  if (found.length > 0) return found
  throw new PawlError('not-found', `there is no *.yaml or *.yml in ${named}`, {
    hint: 'an empty folder would mean that nothing is to be there',
  })
}

async function walk(folder: string, found: string[], depth: number): Promise<void> {
  if (depth > 32) throw new PawlError('invalid', `${folder} is more than 32 folders deep`)
  const entries = await readdir(folder, { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (entry.name.startsWith('.')) continue
    if (entry.isDirectory()) await walk(path, found, depth + 1)
    else if (/\.ya?ml$/.test(entry.name)) found.push(path)
    if (found.length > limits.files)
      throw new PawlError('too-large', `${folder} has more than ${limits.files} files`)
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false // what is wrong with it is told when it is read
  }
}

/** A document of a kind, with nothing in it that its kind does not know; or faults. */
function checked(yaml: YamlFile, file: string, faults: PawlError[]): FleetDocument[] {
  const { value } = yaml
  const kinds = Object.keys(documentSchemas) as DocumentKind[] // the table's own keys
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    faults.push(yaml.fault([], 'a document must be a map', 'it begins with "kind: Node", for example'))
    return []
  }
  const kind = kinds.find((one) => one === (value as { kind?: unknown }).kind)
  if (kind === undefined) {
    const given = 'kind' in value ? 'kind' : 'kind is missing: it'
    faults.push(yaml.fault(['kind'], `${given} must be ${kinds.map((one) => `"${one}"`).join(' or ')}`))
    return []
  }
  const found = faultsOf(documentSchemas[kind], value, `a ${kind}`)
  faults.push(...found.map(({ path, message, hint }) => yaml.fault(path, message, hint)))
  const [listed, elsewhere] = [
    found.map(({ path }) => path),
    found.some(({ path }) => path[0] !== 'nodes' || path.length < 2),
  ]
  if (elsewhere) return []
  const skip = new Set(listed.map(([, index = '']) => index))
  return [{ kind, yaml, file, skip, value: value as FleetDocument['value'] }]
}
