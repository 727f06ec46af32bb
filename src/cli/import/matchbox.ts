import { parseImageRef } from '../../domain/image.ts'
import { reservedArguments } from '../../domain/kernel-args.ts'
import { parseProfile } from '../../domain/profile.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import { asProfileName, Gathering, type Imported, isRecord, textOf } from './gather.ts'

/** A JSON file of matchbox's data folder. */
export interface MatchboxFile {
  readonly path: string
  readonly text: string
}

/** What matchbox keeps, and the image that Pawl boots first. */
export interface MatchboxData {
  readonly groups: readonly MatchboxFile[]
  readonly profiles: readonly MatchboxFile[]
  readonly stage2: string
}

const machineSelectors = ['mac', 'uuid', 'serial', 'hostname']

/**
 * Reads matchbox's groups and profiles. A group that selects one machine becomes a node; a profile becomes a profile that
 * boots an image of its name, which is to be published from the kernel and initrd that it had.
 */
export function importMatchbox({ groups, profiles, stage2 }: MatchboxData): Imported {
  const gathering = new Gathering()
  const names = new Map<string, string>()
  const documents = profiles.flatMap((file) => profileOf(file, stage2, names, gathering))
  for (const file of groups) groupOf(file, names, gathering)
  return gathering.imported(documents)
}

function groupOf(file: MatchboxFile, profiles: ReadonlyMap<string, string>, gathering: Gathering): void {
  const { path } = file
  const group = read(file, gathering)
  if (group === undefined) return
  const selector = isRecord(group.selector) ? group.selector : {}
  const metadata = isRecord(group.metadata) ? group.metadata : {}
  const fallback = path.replace(/^.*\//, '').replace(/\.json$/, '')
  const name = textOf(selector.hostname) ?? textOf(group.id) ?? textOf(group.name) ?? fallback
  if (!machineSelectors.some((one) => textOf(selector[one]) !== undefined)) {
    gathering.warn(path, 'it selects no single machine (mac, uuid, serial or hostname): left out')
    return
  }
  const wanted = textOf(group.profile)
  const profile = wanted === undefined ? undefined : profiles.get(wanted)
  if (wanted !== undefined && profile === undefined)
    gathering.warn(path, `its profile ${wanted} was not imported: the node has none`)
  const others = Object.entries(selector).filter(([key]) => !machineSelectors.includes(key))
  const facts = [...others, ...Object.entries(metadata)].filter(([key, value]) => {
    if (typeof value === 'string') return true
    gathering.warn(path, `${key} is no text and cannot be a label: left out`)
    return false
  })
  if (facts.length > 0)
    gathering.warn(path, 'other selectors and metadata became labels: nothing in Pawl renders them')
  gathering.add({
    where: path,
    name,
    macs: [textOf(selector.mac)].filter((mac) => mac !== undefined),
    uuid: textOf(selector.uuid),
    serial: textOf(selector.serial),
    profile,
    labels: Object.fromEntries(facts.map(([key, value]) => [key.toLowerCase(), String(value)])),
  })
}

function profileOf(
  file: MatchboxFile,
  stage2: string,
  names: Map<string, string>,
  gathering: Gathering,
): ({ name: string } & Record<string, unknown>)[] {
  const { path } = file
  const written = read(file, gathering)
  if (written === undefined) return []
  const id = textOf(written.id) ?? path.replace(/^.*\//, '').replace(/\.json$/, '')
  try {
    const name = asProfileName(id)
    if ([...names.values()].includes(name))
      throw new PawlError('invalid', `another profile became "${name}" already`)
    const boot = isRecord(written.boot) ? written.boot : {}
    const kernelArguments = argumentsOf(boot.args, path, gathering)
    const document = {
      name,
      ...(kernelArguments === '' ? {} : { kernelArguments }),
      boot: { stage2, stage3: `${name}@1` },
    }
    parseImageRef(`${name}@1`)
    parseProfile(document)
    names.set(id, name)
    const initrds = [boot.initrd].flat().map(textOf).filter(Boolean).join(' ') || 'its initrd'
    gathering.warnOf(
      path,
      `publish ${textOf(boot.kernel) ?? 'its kernel'} and ${initrds} as image ${name}@1 (pawl image publish)`,
    )
    for (const field of ['ignition_id', 'cloud_id', 'generic_id'])
      if (textOf(written[field]) !== undefined)
        gathering.warnOf(
          path,
          `${field} ${textOf(written[field])} has no place in Pawl: build it into the image`,
        )
    return [document]
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    gathering.warnOf(path, `${error.message}: left out`)
    return []
  }
}

/** Kernel arguments, without those that Pawl cannot carry or sets itself. */
function argumentsOf(args: unknown, path: string, gathering: Gathering): string {
  const words = Array.isArray(args) ? args.filter((one) => typeof one === 'string') : []
  const kept = words.filter((word) => {
    const why = /[$`{}]/.test(word)
      ? 'is filled in by iPXE or a template'
      : /^initrd=/.test(word) || reservedSafely(word)
        ? 'is what the boot itself sets, or reserved'
        : undefined
    if (why !== undefined) gathering.warnOf(path, `kernel argument ${word.slice(0, 80)} ${why}: left out`)
    return why === undefined
  })
  return kept.join(' ')
}

function reservedSafely(word: string): boolean {
  try {
    return reservedArguments(word).length > 0
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    return false // not of the form of an argument: the profile as a whole is refused for it
  }
}

/** JSON as matchbox reads it: an object. */
function read({ path, text }: MatchboxFile, gathering: Gathering): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (isRecord(value)) return value
    gathering.warn(path, 'it is no JSON object: left out')
  } catch {
    gathering.warn(path, 'it is not JSON: left out')
  }
  return undefined
}
