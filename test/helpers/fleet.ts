import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { manifestDigest, parseManifest } from '../../src/domain/image.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { parseChain } from '../../src/domain/publisher.ts'
import { type MintedToken, tokenFromRandom } from '../../src/domain/token.ts'
import { signImage } from '../../src/pki/code-signing.ts'
import { insertImage } from '../../src/storage/images.ts'
import { setAddresses, setMacs } from '../../src/storage/nodes.ts'
import type { PublisherRow } from '../../src/storage/publisher-tables.ts'
import type { ImageRow, NodeRow } from '../../src/storage/tables.ts'
import { signingKeyOf, testPublisher } from './signing.ts'
import type { World } from './world.ts'

/** A page that every list of a test fits on. */
export const wholeList = { limit: 1000 }

/** The digest of an artifact that exists only in manifests. */
export const digestOf = (letter: string): string => letter.repeat(64)

/** The row of an image that has no bytes. */
export function manifestOf(ref: string, letter: string, at: string, withFilesystem = true): ImageRow {
  const [name, version] = ref.split('@')
  const artifact = (role: string, n: number): object => ({
    role,
    digest: digestOf(letter).slice(0, 63) + n,
    size: 1000 + n,
    mediaType: 'application/octet-stream',
  })
  const manifest = parseManifest({
    schema: 'pawl.image/v1',
    name,
    version,
    arch: 'x86_64',
    kernelArguments: 'console=ttyS0',
    minMemoryMiB: 512,
    artifacts: [
      artifact('kernel', 1),
      artifact('initramfs', 2),
      ...(withFilesystem ? [artifact('filesystem', 3)] : []),
    ],
  })
  return {
    name: manifest.name,
    version: manifest.version,
    manifest: canonicalJson(manifest),
    digest: manifestDigest(manifest),
    created_at: at,
    created_by: 'test',
  }
}

/** Publishes an image's manifest, without bytes. */
export async function publishImage(
  world: World,
  ref: string,
  letter: string,
  withFilesystem = true,
): Promise<void> {
  const row = manifestOf(ref, letter, world.clock.now().toISOString(), withFilesystem)
  await world.context.storage.transaction((tx) => insertImage(tx, row))
  await storeTestSignature(world, row)
}

/** Registers the publisher of the tests unless it is, as if it had always been there: without an event. Returns its name. */
export async function storeTestPublisher(world: World, name = 'builder'): Promise<string> {
  const { leaf, fingerprint } = parseChain((await testPublisher()).certificates)
  const row: PublisherRow = {
    name,
    fingerprint,
    certificates: leaf.toString(),
    created_at: world.clock.now().toISOString(),
    created_by: 'operator:test',
    revoked_at: null,
    revoked_by: null,
  }
  const { db } = world.context.storage
  await db
    .insertInto('publishers')
    .values(row)
    .onConflict((c) => c.doNothing())
    .execute()
  const known = await db
    .selectFrom('publishers')
    .select('name')
    .where('fingerprint', '=', fingerprint)
    .executeTakeFirstOrThrow()
  return known.name
}

/** Signs a stored image as the publisher of the tests. */
export async function storeTestSignature(
  world: World,
  { name, version, manifest }: Pick<ImageRow, 'name' | 'version' | 'manifest'>,
): Promise<void> {
  const publisher = await storeTestPublisher(world)
  const signature = signImage(signingKeyOf(await testPublisher()), parseManifest(JSON.parse(manifest)))
  const at = world.clock.now().toISOString()
  const row = {
    name,
    version,
    publisher,
    document: JSON.stringify(signature),
    signed_at: at,
    signed_by: 'operator:test',
  }
  await world.context.storage.db.insertInto('image_signatures').values(row).execute()
}

/** Stores a profile as it is written. */
export async function storeProfile(
  world: World,
  document: { name: string } & Record<string, unknown>,
): Promise<void> {
  const at = world.clock.now().toISOString()
  const stored = JSON.stringify(writeProfile(parseProfile(document)))
  await world.context.storage.db
    .insertInto('profiles')
    .values({
      name: document.name,
      document: stored,
      revision: 1,
      created_at: at,
      updated_at: at,
    })
    .onConflict((c) => c.column('name').doUpdateSet({ document: stored }))
    .execute()
}

/** The profile of most tests: two images, the enrolment secret as evidence, a reinstall sequence. */
export const demoProfile = {
  name: 'demo',
  evidence: ['secret'],
  kernelArguments: 'quiet',
  boot: { stage2: 'small@1', stage3: 'full@1', join: { kind: 'none' } },
  reinstall: { stage2: 'small@1', stage3: 'full@2', join: { kind: 'none' } },
}

/** A node to be stored: a row's columns, and its lists. */
export interface NodeWish extends Partial<NodeRow> {
  readonly name: string
  readonly addresses?: readonly { address: string; prefixLength: number }[]
  readonly macs?: readonly string[]
}

/** The row of a registered node with an enrolment secret. */
export function newNode(
  name: string,
  secret: MintedToken,
  at: string,
): Omit<NodeRow, 'looping_since' | 'held_back_until' | 'boots_counted_from' | 'wireguard_public_key'> {
  return {
    id: `id-${name}`,
    name,
    profile: 'demo',
    state: 'registered',
    failure_cause: null,
    uuid: null,
    serial: null,
    labels: '{}',
    reinstall: 'none',
    reinstall_attempts: 0,
    reinstall_session: null,
    armed: 0,
    secret_id: secret.id,
    secret_hash: secret.hash,
    last_facts: null,
    session: null,
    created_at: at,
    updated_at: at,
    revision: 1,
  }
}

/** Stores a node; returns its enrolment secret. */
export async function storeNode(world: World, wish: NodeWish): Promise<string> {
  const { addresses = [], macs = [], ...columns } = wish
  const secret = tokenFromRandom(world.context.randomBytes(33))
  const row = { ...newNode(wish.name, secret, world.clock.now().toISOString()), ...columns }
  await world.context.storage.transaction(async (tx) => {
    await tx.insertInto('nodes').values(row).execute()
    await setAddresses(tx, row.id, addresses)
    await setMacs(tx, row.id, macs)
  })
  return secret.text
}

/** A world with two images, the demo profile, and `node1` with its secret. */
export async function storeDemoFleet(world: World): Promise<string> {
  await publishImage(world, 'small@1', 'a', false)
  await publishImage(world, 'full@1', 'b')
  await publishImage(world, 'full@2', 'c')
  await storeProfile(world, demoProfile)
  return storeNode(world, { name: 'node1' })
}

/** The row of a node. */
export function nodeRow(world: World, name = 'node1'): Promise<NodeRow> {
  return world.context.storage.db
    .selectFrom('nodes')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirstOrThrow()
}
