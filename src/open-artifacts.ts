import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import type { CacheMeter } from './domain/meters.ts'
import { isPawlError, PawlError } from './errors.ts'
import { type ArtifactShelf, type ArtifactStore, openArtifactStore, storeOver } from './images/artifacts.ts'
import { diskCached } from './images/disk-cache.ts'
import { openLocalShelf } from './images/local-store.ts'
import type { S3Settings } from './images/s3-client.ts'
import { openS3Shelf } from './images/s3-store.ts'
import { openSpool, type SpoolOptions } from './images/spool.ts'
import { readSecretFile } from './pki/key-file.ts'

/**
 * Opens the artifacts where the settings say. A wrong bucket or credentials stop the start; object storage that does not
 * answer just now does not: all but downloads and publishing works without it.
 */
export async function openArtifacts(
  config: Config,
  log: Logger,
  clock: Clock,
  meter?: CacheMeter,
): Promise<ArtifactStore> {
  const place = config.artifacts ?? { kind: 'folder', path: join(config.dataDir, 'artifacts') }
  const options: SpoolOptions = {
    limits: {
      artifactBytes: config.maxArtifactBytes,
      spoolBytes: config.maxUploadsMiB * 2 ** 20,
      reserveBytes: config.refusalDiskReserveMiB * 2 ** 20,
    },
  }
  if (place.kind === 'folder') return openArtifactStore(place.path, options)
  const shelf = await openBucket(config, place)
  await shelf.check().catch((error: unknown) => {
    if (!isPawlError(error, 'store-unavailable')) throw error
    log.warn({ err: error }, 'the object storage does not answer; it is asked again when it is needed')
  })
  return storeOver(
    await cached(config, { log, clock, meter }, shelf),
    await openSpool(join(config.dataDir, 'spool'), options),
  )
}

/** Opens the artifacts to read them only, as a worker does: what is on its way in is the keeper's. */
export async function openShelf(
  config: Config,
  log: Logger,
  clock: Clock,
  meter?: CacheMeter,
): Promise<ArtifactShelf> {
  const place = config.artifacts ?? { kind: 'folder', path: join(config.dataDir, 'artifacts') }
  return place.kind === 'folder'
    ? openLocalShelf(join(place.path, 'sha256'), undefined)
    : cached(config, { log, clock, meter }, await openBucket(config, place))
}

/** Artifacts of an object storage that machines fetch from here are kept on the disk, as far as they may. */
async function cached<Shelf extends ArtifactShelf>(
  config: Config,
  {
    log,
    clock,
    meter,
  }: { readonly log: Logger; readonly clock: Clock; readonly meter: CacheMeter | undefined },
  shelf: Shelf,
): Promise<Shelf> {
  if (config.artifactDiskCacheMiB === 0) return shelf
  return diskCached(shelf, join(config.dataDir, 'artifact-cache'), {
    maxBytes: config.artifactDiskCacheMiB * 2 ** 20,
    reserveBytes: config.refusalDiskReserveMiB * 2 ** 20,
    clock,
    ...(meter === undefined ? {} : { asked: (answer) => meter('disk', answer) }),
    onFault: (error) => log.warn({ err: error }, 'an artifact is not kept on the disk'),
  })
}

/** Opens the object storage alone, without the folder where uploads arrive. */
export function openBucket(
  config: Config,
  place: { readonly bucket: string; readonly prefix: string },
): ReturnType<typeof openS3Shelf> {
  return openS3Shelf({
    bucket: place.bucket,
    prefix: place.prefix,
    endpoint: config.s3Endpoint,
    publicEndpoint: config.s3PublicEndpoint,
    region: config.s3Region,
    addressing: config.s3Addressing,
    credentials: readCredentials(config.s3CredentialsFile),
    ca: readCa(config.s3CaFile),
  })
}

/** The file in the form that AWS's own tools write; of several profiles the first counts. */
function readCredentials(file: string | undefined): S3Settings['credentials'] {
  if (file === undefined) return undefined
  const text = readSecretFile(file, 'make it with aws_access_key_id and aws_secret_access_key, mode 0600')
  const lineOf = (name: string): string => {
    const [, value] = new RegExp(`^\\s*${name}\\s*=\\s*(\\S+)\\s*$`, 'm').exec(text) ?? []
    if (value === undefined) throw new PawlError('usage', `${file} has no line "${name} = …"`)
    return value
  }
  return { accessKeyId: lineOf('aws_access_key_id'), secretAccessKey: lineOf('aws_secret_access_key') }
}

function readCa(file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  try {
    const text = readFileSync(file, 'utf8')
    if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  } catch (cause) {
    throw new PawlError('usage', `the CA of the object storage, ${file}, cannot be read`, { cause })
  }
  throw new PawlError('usage', `the CA of the object storage, ${file}, is not a PEM certificate`)
}
