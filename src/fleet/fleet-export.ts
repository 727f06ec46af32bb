import type { BootContext } from '../boot/context.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { formatChannelRef } from '../domain/channel.ts'
import { extensionLimits, usualAnswerTypes } from '../domain/extension.ts'
import { type Profile, parseProfile, writeProfile } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'
import { listChannels } from '../storage/channels.ts'
import type { Queries } from '../storage/database.ts'
import { listExtensions } from '../storage/extensions.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import type { FleetKind } from '../storage/fleet-file-tables.ts'
import { listObjects, listSets } from '../storage/fleet-files.ts'
import { allNodes } from '../storage/node-batch.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import { type ExtensionView, extensionView } from './extension-view.ts'
import {
  type FleetChannel,
  type FleetExtension,
  type FleetNode,
  type FleetRequest,
  keyOf,
} from './fleet-plan.ts'
import { settingsOf, shown } from './node-settings.ts'
import { shownProfile } from './profiles.ts'

/** The fleet as files would describe it; applied to the same fleet it changes nothing. Secrets are `***`. */
export type FleetExport = Required<Pick<FleetRequest, 'nodes' | 'profiles' | 'channels' | 'extensions'>>

/** A set of fleet files. */
export interface FleetSetView {
  readonly name: string
  readonly nodes: number
  readonly profiles: number
  readonly channels: number
  readonly extensions: number
  /** The digest of the files last applied. */
  readonly files: string | null
  readonly appliedAt: string | null
  readonly appliedBy: string | null
}

/** Describes the fleet, or what is in one set of it. Throws `not-found` for a set that was never applied. */
export async function exportFleet(
  context: Pick<BootContext, 'storage' | 'sealer'>,
  set: string | undefined,
): Promise<FleetExport> {
  const { db } = context.storage
  const inSet = await members(db, set)
  const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1)
  const nodes = (await allNodes(db)).filter(({ name }) => inSet('node', name)).sort(byName)
  const profiles = (await listProfiles(db)).filter(({ name }) => inSet('profile', name))
  const channels = (await listChannels(db)).filter((row) => inSet('channel', formatChannelRef(row)))
  const extensions = (await listExtensions(db)).filter(({ operation }) => inSet('extension', operation))
  return {
    extensions: extensions.map((row) => extensionOf(extensionView(context, row))),
    nodes: nodes.map(nodeOf),
    profiles: profiles.map((row) => profileOf(readProfile(row))),
    channels: channels.map(
      (row): FleetChannel => ({
        channel: formatChannelRef(row),
        ...(row.version === null ? {} : { version: row.version }),
        ...(row.two_person === 1 ? { twoPerson: true } : {}),
        ...(row.require_test === 1 ? { requireTest: true } : {}),
      }),
    ),
  }
}

/** Every set that was ever applied. */
export async function listFleetSets(db: Queries): Promise<FleetSetView[]> {
  const rows = await listSets(db)
  return [...Map.groupBy(rows, ({ name }) => name)].map(([name, kinds]) => {
    const count = (kind: string): number => kinds.find((row) => row.kind === kind)?.objects ?? 0
    const [row] = kinds
    return {
      name,
      ...{ nodes: count('node'), profiles: count('profile'), channels: count('channel') },
      extensions: count('extension'),
      files: row?.files ?? null,
      appliedAt: row?.applied_at ?? null,
      appliedBy: row?.applied_by ?? null,
    }
  })
}

async function members(
  db: Queries,
  set: string | undefined,
): Promise<(kind: FleetKind, name: string) => boolean> {
  if (set === undefined) return () => true
  const sets = await listSets(db)
  if (!sets.some(({ name }) => name === set)) {
    const names = [...new Set(sets.map(({ name }) => name))].slice(0, 20).join(', ')
    throw new PawlError('not-found', `there is no set "${set}"`, {
      hint: names === '' ? 'none was applied yet' : `there are: ${names}`,
    })
  }
  const keys = new Set(
    (await listObjects(db)).filter((row) => row.set_name === set).map(({ kind, name }) => keyOf(kind, name)),
  )
  return (kind, name) => keys.has(keyOf(kind, name))
}

/** What is set of a node; what is not is left out. */
function nodeOf(node: NodeRecord): FleetNode {
  const set = Object.entries(shown(settingsOf(node))).filter(
    ([, value]) => value !== null && (typeof value !== 'object' || Object.keys(value).length > 0),
  )
  return { name: node.name, ...Object.fromEntries(set) }
}

/** What a profile says beyond the defaults. */
function profileOf(profile: Profile): FleetExport['profiles'][number] {
  const { name } = profile
  const defaults = writeProfile(parseProfile({ name, boot: 'local' }))
  const said = Object.entries(shownProfile(profile)).filter(
    ([field, value]) => field === 'boot' || canonicalJson(value) !== canonicalJson(defaults[field] ?? null),
  )
  return { name, ...Object.fromEntries(said) }
}

/** What an extension says beyond the defaults; its URL as it is shown, its client key as `***`. */
function extensionOf({ operation, url, ...view }: ExtensionView): FleetExtension {
  const { ca, clientCertificate, clientKey } = view
  const { timeoutSeconds, maxAnswerBytes } = extensionLimits
  return {
    ...{ operation, url },
    ...(view.timeoutSeconds === timeoutSeconds.usual ? {} : { timeoutSeconds: view.timeoutSeconds }),
    ...(view.maxAnswerBytes === maxAnswerBytes.usual ? {} : { maxAnswerBytes: view.maxAnswerBytes }),
    ...(canonicalJson(view.answerTypes) === canonicalJson(usualAnswerTypes)
      ? {}
      : { answerTypes: view.answerTypes }),
    ...(ca === null ? {} : { ca }),
    ...(clientCertificate === null ? {} : { clientCertificate }),
    ...(clientKey === null ? {} : { clientKey }),
  }
}
