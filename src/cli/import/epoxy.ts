import { canonicalJson } from '../../domain/canonical-json.ts'
import { parseProfile, writeProfile } from '../../domain/profile.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import { asProfileName, Gathering, type Imported, isRecord, textOf } from './gather.ts'

type Host = Record<string, unknown>
type Chain = Readonly<Record<'stage1.ipxe' | 'stage1.json' | 'stage2' | 'stage3', string>>

/**
 * Reads ePoxy's host records: what `epoxy_admin list` prints ("Listing: NAME", then a JSON object, for each), or a JSON list
 * of them. Hosts that boot the same become nodes of one profile with `tokens: epoxy`. Session ids are never taken over.
 */
export function importEpoxy(text: string, file: string): Imported {
  const gathering = new Gathering()
  const profiles = new Map<string, { name: string; document: Record<string, unknown> }>()
  for (const [index, host] of hostsOf(text, file).entries()) {
    const name = textOf(host.Name)
    const where = `${file}: ${name === undefined ? `record ${index + 1}` : name}`
    if (name === undefined) {
      gathering.warn(where, 'it has no Name: left out')
      continue
    }
    const info = isRecord(host.CollectedInformation) ? host.CollectedInformation : {}
    gathering.add({
      where,
      name,
      addresses: [textOf(host.IPv4Addr), textOf(host.IPv6Addr)].filter((address) => address !== undefined),
      macs: [textOf(info.MAC)].filter((mac) => mac !== undefined),
      uuid: textOf(info.UUID),
      serial: textOf(info.Serial),
      profile: profileFor(host, where, profiles, gathering),
    })
    warnOf(host, where, gathering)
  }
  if (profiles.size > 0)
    gathering.warn(
      file,
      'these profiles trust the address alone, as ePoxy does (acceptAddressOnly in SECURITY.md)',
    )
  const documents = [...profiles.values()].map(({ name, document }) => ({ ...document, name }))
  return {
    fleet: { nodes: gathering.nodes, profiles: documents, channels: [] },
    warnings: gathering.warnings,
  }
}

/** What of a host has no place in Pawl. */
function warnOf(host: Host, where: string, gathering: Gathering): void {
  if (host.UpdateEnabled === true)
    gathering.warn(where, 'it waits for its update: mark it with pawl node reinstall when it is a node')
  if (Array.isArray(host.Extensions) && host.Extensions.length > 0)
    gathering.warn(
      where,
      `its extensions (${host.Extensions.map(String).join(', ')}) have no place in Pawl: join settings of the profile hand out credentials`,
    )
}

/** The name of the profile of all hosts that boot what this one does. */
function profileFor(
  host: Host,
  where: string,
  profiles: Map<string, { name: string; document: Record<string, unknown> }>,
  gathering: Gathering,
): string | undefined {
  const imagesVersion = textOf(host.ImagesVersion) ?? 'latest'
  const boot = chainOf(host.Boot)
  if (boot === undefined) {
    gathering.warn(
      where,
      'its Boot does not name stage1.ipxe, stage1.json, stage2 and stage3: it gets no profile',
    )
    return undefined
  }
  const update = chainOf(host.Update)
  if (isRecord(host.Boot) && textOf(host.Boot['stage1.json']) === undefined)
    gathering.warn(
      where,
      'its record names no stage1.json, as before 2019: it is taken to stand beside the script',
    )
  if (update === undefined)
    gathering.warn(where, 'its Update is not whole: the profile has no reinstall sequence')
  const document = {
    tokens: 'epoxy',
    evidence: ['address'],
    acceptAddressOnly: true,
    boot: { imagesVersion, chain: boot },
    ...(update === undefined ? {} : { reinstall: { imagesVersion, chain: update } }),
  }
  const key = canonicalJson(document)
  const known = profiles.get(key)
  if (known !== undefined) return known.name
  const taken = new Set([...profiles.values()].map((one) => one.name))
  const base = asProfileName(`epoxy-${imagesVersion}`).slice(0, 55)
  let name = base
  for (let n = 2; taken.has(name); n += 1) name = `${base}-${n}`
  try {
    writeProfile(parseProfile({ name, ...document }))
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    gathering.warn(where, `${error.message}: it gets no profile`)
    return undefined
  }
  profiles.set(key, { name, document })
  return name
}

/** The URLs of a sequence: a map by stage, or the three fields of ePoxy before 2019, which have no stage1.json. */
function chainOf(sequence: unknown): Chain | undefined {
  if (!isRecord(sequence)) return undefined
  const urls = {
    'stage1.ipxe': textOf(sequence['stage1.ipxe']) ?? textOf(sequence.Stage1ChainURL),
    'stage1.json':
      textOf(sequence['stage1.json']) ?? textOf(sequence.Stage1ChainURL)?.replace(/\.ipxe$/, '.json'),
    stage2: textOf(sequence.stage2) ?? textOf(sequence.Stage2ChainURL),
    stage3: textOf(sequence.stage3) ?? textOf(sequence.Stage3ChainURL),
  }
  return Object.values(urls).every((url) => url !== undefined) ? (urls as Chain) : undefined
}

function hostsOf(text: string, file: string): Host[] {
  const hosts = values(text, file).flatMap((value) => (Array.isArray(value) ? value : [value]))
  if (hosts.length === 0) throw new PawlError('invalid', `${file} has no host records`)
  const wrong = hosts.findIndex((host) => !isRecord(host))
  if (wrong >= 0) throw new PawlError('invalid', `${file}: record ${wrong + 1} is no JSON object`)
  return hosts
}

/** The JSON values of a text: one, or one behind the other with `Listing: NAME` lines between them. */
function values(text: string, file: string): unknown[] {
  const found: unknown[] = []
  const whole = text.replace(/^Listing: .*$/gm, '')
  let depth = 0
  let start = -1
  let quoted = false
  for (let at = 0; at < whole.length; at += 1) {
    const c = whole[at]
    if (quoted) {
      if (c === '\\') at += 1
      else if (c === '"') quoted = false
    } else if (c === '"') quoted = true
    else if (c === '{' || c === '[') {
      if (depth === 0) start = at
      depth += 1
    } else if (c === '}' || c === ']') {
      depth -= 1
      if (depth === 0 && start >= 0) found.push(parse(whole.slice(start, at + 1), file, found.length + 1))
      if (depth < 0) break
    }
  }
  if (depth !== 0 || quoted)
    throw new PawlError('invalid', `${file}: the JSON of record ${found.length + 1} is cut off`)
  return found
}

function parse(text: string, file: string, record: number): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new PawlError('invalid', `${file}: record ${record} is not JSON`)
  }
}
