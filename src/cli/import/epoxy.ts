import { canonicalJson } from '../../domain/canonical-json.ts'
import { extensionLimits, parseOperation } from '../../domain/extension.ts'
import { parseProfile, writeProfile } from '../../domain/profile.ts'
import { isPawlError } from '../../errors.ts'
import type { FleetFile } from '../fleet-yaml.ts'
import { type EpoxyHistory, historyFile, historyOf } from './epoxy-history.ts'
import { type EpoxyHost, epoxyRecords } from './epoxy-records.ts'
import { asProfileName, Gathering, type Imported, isRecord, textOf } from './gather.ts'

type Chain = Readonly<Record<'stage1.ipxe' | 'stage1.json' | 'stage2' | 'stage3', string>>
type Document = Readonly<Record<string, unknown>> & { readonly extensions?: readonly string[] }
type Profiles = Map<string, { name: string; document: Document }>

/** More than one apply takes: hosts beyond them get no profile. */
const maxProfiles = 500

/**
 * Reads ePoxy's host records: what `epoxy_admin list` prints ("Listing: NAME", then a JSON object, for each), or a JSON list
 * of them. Hosts that boot the same become nodes of one profile with `tokens: epoxy`. Session ids are never taken over.
 */
export function importEpoxy(text: string, file: string, now: Date): Imported {
  const gathering = new Gathering()
  const profiles: Profiles = new Map()
  const history: EpoxyHistory[] = []
  for (const { number, host, fault } of epoxyRecords(text, file)) {
    const name = textOf(host?.Name)?.slice(0, 300)
    const where = `${file}: ${name === undefined ? `record ${number}` : name}`
    if (host === undefined || name === undefined) {
      gathering.warn(where, `${host === undefined ? fault : 'it has no Name'}: left out`)
      continue
    }
    const info = isRecord(host.CollectedInformation) ? host.CollectedInformation : {}
    const node = gathering.add({
      where,
      name,
      addresses: [textOf(host.IPv4Addr), textOf(host.IPv6Addr)].filter((address) => address !== undefined),
      macs: [textOf(info.MAC)].filter((mac) => mac !== undefined),
      uuid: textOf(info.UUID),
      serial: textOf(info.Serial),
      profile: profileFor(host, where, profiles, gathering),
    })
    if (node === undefined) continue
    history.push(historyOf(host, node.name, { where, now, gathering }))
    warnOf(host, info, where, gathering)
  }
  const used = new Set(gathering.nodes.map(({ profile }) => profile))
  const documents = [...profiles.values()]
    .filter(({ name }) => used.has(name))
    .map(({ name, document }) => ({ ...document, name }))
  if (documents.length > 0)
    gathering.warnOf(
      file,
      'these profiles trust the address alone, as ePoxy does (acceptAddressOnly in SECURITY.md)',
    )
  const operations = new Set(
    [...profiles.values()].flatMap(({ name, document }) =>
      used.has(name) ? (document.extensions ?? []) : [],
    ),
  )
  for (const operation of operations)
    gathering.warnOf(
      file,
      `the records do not say which service answers ${operation}: its nodes get nothing until pawl extension apply -f ${operation}.extension`,
    )
  return {
    ...gathering.imported(documents),
    beside: [...historyFile(history), ...[...operations].toSorted().map(serviceFile)],
  }
}

/** Where the service of an operation is to be filled in. Its name is none that `pawl diff` reads in a folder. */
function serviceFile(operation: string): FleetFile {
  const name = `${operation}.extension`
  return {
    name,
    lines: [
      `# The service that answers ${operation}: its URL is in the configuration of ePoxy's server.`,
      `# Fill it in, then: pawl extension apply -f ${name} (or, with "kind: Extension", among the fleet files).`,
      `operation: ${operation}`,
      `url: # https://HOST/v2/${operation}`,
    ],
    toFillIn: true,
  }
}

/** What of a host has no place in Pawl. */
function warnOf(host: EpoxyHost, info: EpoxyHost, where: string, gathering: Gathering): void {
  if (host.UpdateEnabled === true)
    gathering.warn(where, 'it waits for its update: mark it with pawl node reinstall when it is a node')
  if (textOf(info.PublicSSHHostKey) !== undefined)
    gathering.warn(where, 'its PublicSSHHostKey was told without proof, and is left out')
}

/** The operations of its extensions, as a profile takes them; what is no name of one is none. */
function operationsOf({ Extensions }: EpoxyHost, where: string, gathering: Gathering): string[] {
  const all = new Set(Array.isArray(Extensions) ? Extensions : [])
  const usable = [...all].filter((one) => {
    try {
      return typeof one === 'string' && parseOperation(one) === one
    } catch (error) {
      if (!isPawlError(error, 'invalid')) throw error
      gathering.warn(where, `its extension is left out: ${error.message}`)
      return false
    }
  })
  const { ofProfile } = extensionLimits
  if (usable.length > ofProfile)
    gathering.warn(where, `it has more than ${ofProfile} extensions: the others are left out`)
  return usable.slice(0, ofProfile).toSorted()
}

/** The name of the profile of all hosts that boot what this one does. */
function profileFor(
  host: EpoxyHost,
  where: string,
  profiles: Profiles,
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
  if (isRecord(host.Boot) && textOf(host.Boot['stage1.json']) === undefined)
    gathering.warn(
      where,
      'its record names no stage1.json, as before 2019: it is taken to stand beside the script',
    )
  const extensions = operationsOf(host, where, gathering)
  const base = {
    ...{ tokens: 'epoxy', evidence: ['address'], acceptAddressOnly: true },
    ...(extensions.length === 0 ? {} : { extensions }),
  }
  const document: Document = { ...base, boot: { imagesVersion, chain: boot } }
  const bootFault = faultOf(document)
  if (bootFault !== undefined) {
    gathering.warn(where, `${bootFault}: it gets no profile`)
    return undefined
  }
  const update = chainOf(host.Update)
  const whole = { ...document, reinstall: { imagesVersion, chain: update } }
  const updateFault = update === undefined ? 'its Update is not whole' : faultOf(whole)
  if (updateFault !== undefined)
    gathering.warn(where, `${updateFault}: the profile has no reinstall sequence`)
  const name = nameOf(updateFault === undefined ? whole : document, imagesVersion, profiles)
  if (name === undefined)
    gathering.warn(where, `it boots something else than ${maxProfiles} hosts before it: it gets no profile`)
  return name
}

/** The profile that boots this, with a name of its own where it is new; undefined where there is no room for another. */
function nameOf(document: Document, imagesVersion: string, profiles: Profiles): string | undefined {
  const key = canonicalJson(document)
  const known = profiles.get(key)
  if (known !== undefined) return known.name
  if (profiles.size >= maxProfiles) return undefined
  const taken = new Set([...profiles.values()].map((one) => one.name))
  const base = asProfileName(`epoxy-${imagesVersion}`).slice(0, 55)
  let name = base
  for (let n = 2; taken.has(name); n += 1) name = `${base}-${n}`
  profiles.set(key, { name, document })
  return name
}

/** Why it is no profile; undefined where it is one. */
function faultOf(document: Document): string | undefined {
  try {
    writeProfile(parseProfile({ name: 'epoxy', ...document }))
    return undefined
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    return error.message
  }
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
