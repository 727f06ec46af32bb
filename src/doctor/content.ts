import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { formatChannelRef, parseImageSource } from '../domain/channel.ts'
import type { Digest } from '../domain/digest.ts'
import { parseManifest } from '../domain/image.ts'
import { type Profile, sourcesOf } from '../domain/profile.ts'
import { sharedAddresses, sharedAddressWarning } from '../fleet/shared-addresses.ts'
import { trustWarning } from '../fleet/trust-warnings.ts'
import { openBucket } from '../open-artifacts.ts'
import { findChannel } from '../storage/channels.ts'
import type { Queries } from '../storage/database.ts'
import { findImage, listProfiles, readProfile } from '../storage/fleet.ts'
import { listImages } from '../storage/images.ts'
import { findRemovals } from '../storage/removals.ts'
import { loadTemplates } from '../templates/load.ts'
import { templateNames } from '../templates/variables.ts'
import { type Finding, fail, failure, ok, type Subject, warn } from './finding.ts'

/** Every script parses and renders, the operator's own too. */
export function templates({ dataDir, templatesFolder }: Subject): Finding[] {
  const own = join(dataDir, 'ipxe-templates')
  try {
    loadTemplates([own, templatesFolder])
  } catch (error) {
    return [failure('templates', error)]
  }
  const replaced = existsSync(own) ? readdirSync(own).filter((name) => /\.(ipxe|sh)$/.test(name)) : []
  const which = replaced.length === 0 ? '' : `; yours: ${replaced.sort().join(', ')}`
  return [ok('templates', `${templateNames.length} render${which}`)]
}

/** Every artifact that an image names is there, of the right size; with `--full` of the right bytes. */
export async function images(subject: Subject): Promise<Finding[]> {
  const { storage } = subject
  if (storage === undefined) return []
  const sizes = new Map<string, { size: number; ref: string }>()
  const rows = await listImages(storage.db)
  for (const { name, version, manifest } of rows) {
    for (const { digest, size } of parseManifest(JSON.parse(manifest)).artifacts)
      sizes.set(digest, { size, ref: `${name}@${version}` })
  }
  const removals = sizes.size === 0 ? [] : await findRemovals(storage.db, [...sizes.keys()])
  const removed = new Set(removals.map(({ digest }) => digest as string))
  const look = await artifactsOf(subject)
  const faults: string[] = []
  for (const [digest, { size, ref }] of sizes) {
    const fault = removed.has(digest) ? 'was removed' : await look(digest, size)
    if (fault !== undefined) faults.push(`${ref}: ${digest.slice(0, 12)} ${fault}`)
  }
  if (faults.length === 0) {
    const how = subject.full ? 'read and right' : 'there (--full reads them)'
    return [ok('images', `${rows.length} images, ${sizes.size} artifacts, all ${how}`)]
  }
  const more = faults.length > 3 ? `, and ${faults.length - 3} more` : ''
  const advice = 'publish the image again: its bytes are sent anew'
  return [fail('images', `${faults.slice(0, 3).join('; ')}${more}`, advice)]
}

type Look = (digest: string, size: number) => Promise<string | undefined>

async function artifactsOf({ config, dataDir, full }: Subject): Promise<Look> {
  const place = config.artifacts ?? { kind: 'folder', path: join(dataDir, 'artifacts') }
  if (place.kind !== 'folder') {
    const bucket = await openBucket(config, place)
    return async (digest, size) => {
      const found = await bucket.has(digest as Digest) // of a manifest, which was checked when it was published
      if (found !== size) return found === undefined ? 'is not there' : `has ${found} bytes, not ${size}`
      if (!full) return undefined
      return bucket.verify(digest as Digest).then(
        () => undefined,
        () => 'has other bytes',
      )
    }
  }
  return async (digest, size) => {
    const file = join(place.path, 'sha256', digest)
    const found = statSync(file, { throwIfNoEntry: false })?.size
    if (found !== size) return found === undefined ? 'is not there' : `has ${found} bytes, not ${size}`
    return full && (await hashOf(file)) !== digest ? 'has other bytes' : undefined
  }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(part as Uint8Array)
  return hash.digest('hex')
}

/** Every profile names what is there and is signed as it demands; every node has one. */
export async function profiles({ storage }: Subject): Promise<Finding[]> {
  if (storage === undefined) return []
  const { db } = storage
  const all = (await listProfiles(db)).map(readProfile)
  const findings: Finding[] = []
  for (const profile of all) findings.push(...(await profileFaults(db, profile)))
  const without = await db
    .selectFrom('nodes')
    .select('name')
    .where('profile', 'is', null)
    .orderBy('name')
    .execute()
  if (without.length > 0) {
    const some = without
      .slice(0, 5)
      .map(({ name }) => name)
      .join(', ')
    findings.push(
      warn(
        'nodes',
        `${without.length} without a profile: ${some}`,
        'give each one: pawl node set NAME --profile P',
      ),
    )
  }
  const shared = await sharedAddresses(db)
  for (const one of shared.slice(0, 5))
    findings.push(warn('addresses', sharedAddressWarning(one), 'add "secret" to the evidence of the profile'))
  if (shared.length > 5)
    findings.push(warn('addresses', `${shared.length - 5} more addresses like these`, 'the same'))
  return findings.length > 0
    ? findings
    : [ok('profiles', `${all.length}, and every image they name is there`)]
}

async function profileFaults(db: Queries, profile: Profile): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const written of new Set(sourcesOf(profile))) {
    const source = parseImageSource(written)
    const version = source.kind === 'version' ? source.version : (await findChannel(db, source))?.version
    const check = `profile ${profile.name}`
    if (version == null) {
      const channel = source.kind === 'channel' ? formatChannelRef(source) : written
      findings.push(
        fail(check, `channel ${channel} points at nothing`, `pawl channel set ${channel} VERSION`),
      )
    } else if ((await findImage(db, source.name, version)) === undefined) {
      findings.push(
        fail(
          check,
          `image ${source.name}@${version} is not published`,
          `pawl image publish ${source.name}@${version} ...`,
        ),
      )
    } else {
      const warning = await trustWarning(db, profile, { name: source.name, version })
      if (warning !== undefined)
        findings.push(fail(check, warning, `pawl image sign ${source.name}@${version}`))
    }
  }
  return findings
}
