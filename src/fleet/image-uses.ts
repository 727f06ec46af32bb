import { readPinned } from '../boot/pin.ts'
import { parseImageSource } from '../domain/channel.ts'
import { type Manifest, parseManifest } from '../domain/image.ts'
import { sourcesOf } from '../domain/profile.ts'
import { findArrival, listChannels } from '../storage/channels.ts'
import type { Queries } from '../storage/database.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import { listProposals } from '../storage/proposals.ts'
import { listLiveRollouts } from '../storage/rollouts.ts'

/** What is in use, and must not be removed. */
export interface Uses {
  /** `name@version`, with by what. */
  readonly versions: ReadonlyMap<string, string>
  /** Digests of artifacts that no version names yet: those of images that wait for a second person. */
  readonly artifacts: ReadonlySet<string>
}

/**
 * Everything that may boot a version: profiles that name it, channels that point at it or would be rolled back to it,
 * rollouts, sessions that are open, and changes that wait for a second person.
 */
export async function findUses(db: Queries): Promise<Uses> {
  const versions = new Map<string, string>()
  for (const row of await listProfiles(db)) {
    for (const source of sourcesOf(readProfile(row)).map(parseImageSource))
      if (source.kind === 'version') versions.set(`${source.name}@${source.version}`, `profile ${row.name}`)
  }
  for (const row of await listChannels(db)) {
    if (row.version === null) continue
    const channel = `${row.name}/${row.channel}`
    versions.set(`${row.name}@${row.version}`, `channel ${channel}`)
    const before = (await findArrival(db, row, row.version))?.before
    if (before != null) versions.set(`${row.name}@${before}`, `channel ${channel}, to roll back to`)
  }
  for (const rollout of await listLiveRollouts(db)) {
    for (const version of [rollout.version, rollout.before])
      versions.set(`${rollout.name}@${version}`, `rollout ${rollout.id}`)
  }
  const live = await db
    .selectFrom('sessions')
    .select(['id', 'pinned'])
    .where('ended_at', 'is', null)
    .execute()
  for (const { id, pinned } of live) {
    for (const image of Object.values(readPinned(pinned).images ?? {}))
      versions.set(image.ref, `session ${id}`)
  }
  const artifacts = await addProposals(db, versions)
  return { versions, artifacts }
}

async function addProposals(db: Queries, versions: Map<string, string>): Promise<Set<string>> {
  const artifacts = new Set<string>()
  for (const row of await listProposals(db, { waiting: true, limit: 1000 })) {
    const document = JSON.parse(row.document) as { channel?: string; version?: string; manifest?: Manifest }
    if (row.kind === 'image')
      for (const { digest } of parseManifest(document.manifest).artifacts) artifacts.add(digest)
    else if (document.channel !== undefined)
      versions.set(`${document.channel.split('/')[0]}@${document.version}`, `proposal ${row.id}`)
  }
  return artifacts
}
