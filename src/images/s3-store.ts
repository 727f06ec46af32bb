/**
 * Artifacts in an S3-compatible object store: PREFIXsha256/<64 hex>. An object appears there whole or not at all, and only
 * files that were checked are sent, so a name that is there is right, as in a local folder.
 */
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import type { S3Client } from '@aws-sdk/client-s3'
import type { Digest } from '../domain/digest.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactRedirects, ArtifactShelf, OpenArtifact, StoredArtifact } from './artifacts.ts'
import { checkDigest, notStored } from './bytes.ts'
import { loadSdk, openClient, type S3Sdk, type S3Settings, statusOf, storeUnavailable } from './s3-client.ts'
import { openParts, type Parts } from './s3-parts.ts'

/** A shelf in an object store. */
export interface S3Shelf extends ArtifactShelf {
  /** Asks whether the bucket is there for us; throws `usage` where it is not, `store-unavailable` where nothing answers. */
  check(): Promise<void>
  readonly redirects: ArtifactRedirects
}

/** Parts of an upload: 10,000 of them are an artifact of 80 GB, and S3 takes no more. */
const partBytes = 8 * 2 ** 20
/** Parts under way at once; memory for an upload is one more than these. */
const partsAtOnce = 3
/** How long a part may lie at the store before the upload it belongs to is given up. */
const keepPartsMilliseconds = 24 * 3600_000

/** Opens it; nothing is asked yet. */
export async function openS3Shelf(settings: S3Settings): Promise<S3Shelf> {
  const sdk = await loadSdk()
  const client = openClient(sdk, settings, settings.endpoint)
  const bucket: Bucket = { sdk, client, Bucket: settings.bucket, prefix: `${settings.prefix}sha256/` }
  const parts = openParts((digest, start, end) => bytesOf(bucket, digest, start, end))
  return {
    check: () => check(bucket),
    has: (digest) => sizeOf(bucket, digest),
    open: (digest) => open(bucket, digest, parts),
    async verify(digest) {
      const size = await sizeOf(bucket, digest)
      if (size === undefined) throw notStored(digest)
      return checkDigest(bytesOf(bucket, digest, 0, size), digest)
    },
    take: (digest, path, size) => send(bucket, digest, path, size),
    remove: (digest) =>
      asked('remove an artifact', client.send(new sdk.DeleteObjectCommand(place(bucket, digest)))).then(
        () => {},
      ),
    list: () => list(bucket),
    tidy: (now) => abortOldUploads(bucket, now),
    redirects: await openRedirects(bucket, settings),
  }
}

/** Time to begin a download; one that runs may take longer. */
const urlLifetimeSeconds = 900

/** Signed by us and checked by the store, as machines reach it. Nothing is asked for it. */
async function openRedirects({ sdk, ...rest }: Bucket, settings: S3Settings): Promise<ArtifactRedirects> {
  const endpoint = settings.publicEndpoint ?? settings.endpoint
  const sign = (client: S3Client, digest: string): Promise<string> => {
    const command = new sdk.GetObjectCommand({ Bucket: rest.Bucket, Key: `${rest.prefix}${digest}` })
    return sdk.getSignedUrl(client, command, { expiresIn: urlLifetimeSeconds })
  }
  const client = openClient(sdk, settings, endpoint)
  // Only the SDK knows what it makes of endpoint, region and bucket: a URL that opens nothing tells the origin.
  const nobody = openClient(
    sdk,
    { ...settings, credentials: { accessKeyId: 'x', secretAccessKey: 'x' } },
    endpoint,
  )
  const { origin } = new URL(await sign(nobody, 'x'))
  return { origin, ca: settings.ca, urlOf: (digest) => sign(client, digest) }
}

interface Bucket {
  readonly sdk: S3Sdk
  readonly client: S3Client
  readonly Bucket: string
  readonly prefix: string
}

function place({ Bucket, prefix }: Bucket, digest: Digest): { Bucket: string; Key: string } {
  return { Bucket, Key: `${prefix}${digest}` }
}

/** An answer of the store, or `store-unavailable`. */
async function asked<T>(what: string, answer: Promise<T>): Promise<T> {
  return answer.catch((error: unknown) => {
    throw storeUnavailable(what, error)
  })
}

async function check({ sdk, client, Bucket }: Bucket): Promise<void> {
  try {
    await client.send(new sdk.HeadBucketCommand({ Bucket }))
  } catch (error) {
    const status = statusOf(error)
    if (status === 404) throw new PawlError('usage', `there is no bucket ${Bucket} at the object storage`)
    if (status === 401 || status === 403) {
      throw new PawlError(
        'usage',
        `the object storage does not let us use the bucket ${Bucket} (HTTP ${status})`,
        {
          hint: 'check the credentials (s3CredentialsFile), what they may do, s3Region and both clocks',
        },
      )
    }
    throw storeUnavailable('be reached', error)
  }
}

async function sizeOf(bucket: Bucket, digest: Digest): Promise<number | undefined> {
  try {
    const head = await bucket.client.send(new bucket.sdk.HeadObjectCommand(place(bucket, digest)))
    return head.ContentLength
  } catch (error) {
    if (statusOf(error) === 404) return undefined
    throw storeUnavailable('tell of an artifact', error)
  }
}

async function open(bucket: Bucket, digest: Digest, parts: Parts): Promise<OpenArtifact> {
  const size = await sizeOf(bucket, digest)
  if (size === undefined) throw notStored(digest)
  return {
    size,
    async read(into, position) {
      if (position + into.length > size)
        throw new PawlError('digest-mismatch', `artifact ${digest} ends at byte ${size}`)
      await parts.read(digest, size, into, position)
    },
    close: async () => {},
  }
}

/** Requests for the same bytes, each going on where the one before broke off, until one brings nothing. */
const maxBroken = 3

/** The bytes from `start` up to and without `end`, as they come. */
async function* bytesOf(
  bucket: Bucket,
  digest: Digest,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array> {
  let position = start
  for (let broken = 0; position < end; ) {
    const Range = `bytes=${position}-${end - 1}`
    const before = position
    try {
      const command = new bucket.sdk.GetObjectCommand({ ...place(bucket, digest), Range })
      const { Body } = await bucket.client.send(command)
      if (!(Body instanceof Readable)) throw new Error('an answer without a body')
      for await (const chunk of Body as AsyncIterable<Uint8Array>) {
        position += chunk.length
        yield chunk
      }
      if (position < end) throw new Error('the body ended early')
    } catch (error) {
      if (statusOf(error) === 404) throw notStored(digest)
      broken = position > before ? 1 : broken + 1
      if (broken >= maxBroken || statusOf(error) !== undefined)
        throw storeUnavailable('send an artifact', error)
    }
  }
}

/** In parts, a few at a time, so that memory does not grow with the file; a part that fails takes the whole upload back. */
async function send(bucket: Bucket, digest: Digest, path: string, size: number): Promise<void> {
  const body = createReadStream(path, { highWaterMark: 2 ** 20 })
  try {
    const upload = new bucket.sdk.Upload({
      client: bucket.client,
      params: { ...place(bucket, digest), Body: body, ContentType: 'application/octet-stream' },
      partSize: partBytes,
      queueSize: partsAtOnce,
    })
    await asked('take an artifact', upload.done())
  } finally {
    body.destroy()
  }
  const arrived = await sizeOf(bucket, digest)
  if (arrived !== size)
    throw new PawlError('store-unavailable', `the object storage has ${arrived ?? 0} of ${size} bytes`)
}

async function* list(bucket: Bucket): AsyncGenerator<StoredArtifact> {
  const { sdk, client, Bucket, prefix } = bucket
  const pages = sdk.paginateListObjectsV2({ client }, { Bucket, Prefix: prefix })[Symbol.asyncIterator]()
  for (;;) {
    const page = await asked('list artifacts', pages.next())
    if (page.done === true) return
    for (const { Key = '', Size = 0, LastModified = new Date(0) } of page.value.Contents ?? []) {
      const name = Key.slice(prefix.length)
      if (/^[0-9a-f]{64}$/.test(name)) yield { digest: name as Digest, size: Size, modifiedAt: LastModified } // by its form
    }
  }
}

/** What a killed server had sent of an upload lies at the store, unseen and paid for, until someone gives it up. */
async function abortOldUploads({ sdk, client, Bucket, prefix }: Bucket, now: Date): Promise<void> {
  const answer = await asked(
    'list unfinished uploads',
    client.send(new sdk.ListMultipartUploadsCommand({ Bucket, Prefix: prefix })), // the next run takes the next 1000
  )
  for (const { Key, UploadId, Initiated } of answer.Uploads ?? []) {
    if (Initiated === undefined || now.getTime() - Initiated.getTime() < keepPartsMilliseconds) continue
    await asked(
      'give up an unfinished upload',
      client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId })),
    )
  }
}
