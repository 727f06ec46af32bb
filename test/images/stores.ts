import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DeleteObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import type { Test } from 'tap'
import type { Digest } from '../../src/domain/digest.ts'
import { type ArtifactStore, openArtifactStore, storeOver } from '../../src/images/artifacts.ts'
import type { S3Settings } from '../../src/images/s3-client.ts'
import { openS3Shelf } from '../../src/images/s3-store.ts'
import { openSpool, type SpoolOptions } from '../../src/images/spool.ts'
import { radosgwAbsent, startRadosgw } from '../helpers/radosgw.ts'

/** A store, and a look behind it. */
export interface TestStore {
  readonly store: ArtifactStore
  /** Files of uploads that are not done. */
  readonly spool: () => string[]
  /** Changes an artifact's bytes where they are kept; without any it is taken away. */
  readonly spoil: (digest: Digest, bytes: Buffer | undefined) => Promise<void>
  /** Opens the same store again, as another process would. */
  readonly again: () => Promise<ArtifactStore>
}

/** Opens a new, empty store of one kind; it goes with the test. */
export type OpenStore = (t: Test, options?: SpoolOptions) => Promise<TestStore>

/** Runs a suite once for each kind of store. */
export async function forEachStore(
  t: Test,
  suite: (t: Test, openStore: OpenStore) => Promise<void>,
): Promise<void> {
  await t.test('in a folder', (t) => suite(t, inFolder))
  await t.test('in S3', s3Skip(), (t) => suite(t, inBucket))
}

/** Options of a test that needs S3: skipped by name where there is none, and failing there with PAWL_REQUIRE=all. */
export function s3Skip(): { skip?: string } {
  const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : radosgwAbsent()
  return absent === undefined ? {} : { skip: absent }
}

/** A folder that goes with the test. */
export function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-store-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function inFolder(t: Test, options: SpoolOptions = {}): Promise<TestStore> {
  const folder = temporaryFolder(t)
  return {
    store: await openArtifactStore(folder, options),
    spool: () => readdirSync(join(folder, 'tmp')),
    async spoil(digest, bytes) {
      if (bytes === undefined) rmSync(join(folder, 'sha256', digest))
      else writeFileSync(join(folder, 'sha256', digest), bytes)
    },
    again: () => openArtifactStore(folder, options),
  }
}

async function inBucket(t: Test, options: SpoolOptions = {}): Promise<TestStore> {
  const settings = { ...(await (await startRadosgw()).createBucket()), prefix: 'site/' }
  const spool = temporaryFolder(t)
  const open = async () => storeOver(await openS3Shelf(settings), await openSpool(spool, options))
  const client = rawClient(settings)
  return {
    store: await open(),
    spool: () => readdirSync(spool),
    async spoil(digest, bytes) {
      const place = { Bucket: settings.bucket, Key: `site/sha256/${digest}` }
      if (bytes === undefined) await client.send(new DeleteObjectCommand(place))
      else await client.send(new PutObjectCommand({ ...place, Body: bytes }))
    },
    again: open,
  }
}

/** The SDK's own client, to do behind a store what the store never does. */
export function rawClient({ endpoint, region, credentials }: S3Settings): S3Client {
  return new S3Client({
    region,
    forcePathStyle: true,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
  })
}
