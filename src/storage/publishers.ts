import type { Queries, Tx } from './database.ts'
import type { ImageSignatureRow, PublisherRow } from './publisher-tables.ts'
import { statement } from './statement.ts'
import type { ImageRow } from './tables.ts'

/** An image version. */
interface Named {
  readonly name: string
  readonly version: string
}

/** A signature as stored, and whether its publisher is trusted still. */
export type StoredSignature = ImageSignatureRow & Pick<PublisherRow, 'fingerprint' | 'revoked_at'>

/** Finds a publisher by name; revoked ones too. */
export function findPublisher(db: Queries, name: string): Promise<PublisherRow | undefined> {
  return db.selectFrom('publishers').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Finds the publisher with this leaf certificate; revoked ones too. */
export function findPublisherByFingerprint(
  db: Queries,
  fingerprint: string,
): Promise<PublisherRow | undefined> {
  return db.selectFrom('publishers').selectAll().where('fingerprint', '=', fingerprint).executeTakeFirst()
}

/** Adds a publisher; names and fingerprints are unique for ever. */
export async function insertPublisher(tx: Tx, row: PublisherRow): Promise<void> {
  await tx.insertInto('publishers').values(row).execute()
}

/** Marks a publisher as revoked. */
export async function markRevoked(tx: Tx, name: string, at: string, by: string): Promise<void> {
  await tx
    .updateTable('publishers')
    .set({ revoked_at: at, revoked_by: by })
    .where('name', '=', name)
    .execute()
}

/** Adds a signature where its publisher has not signed the image yet; says whether it did. */
export async function insertSignature(tx: Tx, row: ImageSignatureRow): Promise<boolean> {
  const result = await tx
    .insertInto('image_signatures')
    .values(row)
    .onConflict((c) => c.doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n
}

/** An image's signatures, the oldest first; those of revoked publishers too. */
export function listSignatures(db: Queries, name: string, version: string): Promise<StoredSignature[]> {
  return signatures.all(db, { name, version })
}

const signatures = statement<Named>()((db, value) =>
  db
    .selectFrom('image_signatures as s')
    .innerJoin('publishers as p', 'p.name', 's.publisher')
    .selectAll('s')
    .select(['p.fingerprint', 'p.revoked_at'])
    .where('s.name', '=', value('name'))
    .where('s.version', '=', value('version'))
    .orderBy('s.signed_at')
    .orderBy('s.publisher'),
)
const signers = statement<Named>()((db, value) =>
  db
    .selectFrom('image_signatures as s')
    .innerJoin('publishers as p', 'p.name', 's.publisher')
    .select(['s.publisher', 'p.revoked_at'])
    .where('s.name', '=', value('name'))
    .where('s.version', '=', value('version'))
    .orderBy('s.signed_at')
    .orderBy('s.publisher'),
)

/** Who signed an image, and whether that publisher is trusted still. */
export type Signer = Pick<StoredSignature, 'publisher' | 'revoked_at'>

/** Who signed an image, the earliest first, without the signatures themselves. */
export function listSignersOf(db: Queries, name: string, version: string): Promise<Signer[]> {
  return signers.all(db, { name, version })
}

/** An image version with who signed it, the earliest first. */
export interface SignedImage extends ImageRow {
  readonly signers: readonly (Signer & Pick<StoredSignature, 'signed_at' | 'fingerprint'>)[]
}

const signed = (db: Queries, value: <Name extends keyof Named>(name: Name) => string) =>
  db
    .selectFrom('images')
    .leftJoin('image_signatures as s', (join) =>
      join.onRef('s.name', '=', 'images.name').onRef('s.version', '=', 'images.version'),
    )
    .leftJoin('publishers as p', 'p.name', 's.publisher')
    .selectAll('images')
    .select(['p.name as publisher', 'p.fingerprint', 'p.revoked_at', 's.signed_at'])
    .where('images.name', '=', value('name'))
    .where('images.version', '=', value('version'))
    .orderBy('s.signed_at')
    .orderBy('s.publisher')

const signedImage = statement<Named>()((db, value) => signed(db, value))
const signedForUse = statement<Named>()((db, value, postgres) =>
  postgres ? signed(db, value).forKeyShare('images') : signed(db, value),
)

/** Finds an image version and who signed it. */
export async function findSignedImage(
  db: Queries,
  name: string,
  version: string,
): Promise<SignedImage | undefined> {
  return withSigners(await signedImage.all(db, { name, version }))
}

/** The same for one that is going to be used: see `useImage`. */
export async function useSignedImage(
  tx: Tx,
  name: string,
  version: string,
): Promise<SignedImage | undefined> {
  return withSigners(await signedForUse.all(tx, { name, version }))
}

type SignedRow = ImageRow & {
  readonly [Name in 'publisher' | 'fingerprint' | 'revoked_at' | 'signed_at']: string | null
}

function withSigners(rows: readonly SignedRow[]): SignedImage | undefined {
  const [first] = rows
  if (first === undefined) return undefined
  const { name, version, manifest, digest, created_at, created_by } = first
  const signers = rows.flatMap(({ publisher, fingerprint, revoked_at, signed_at }) =>
    publisher === null || fingerprint === null || signed_at === null
      ? []
      : [{ publisher, fingerprint, revoked_at, signed_at }],
  )
  return { name, version, manifest, digest, created_at, created_by, signers }
}

/** A publisher's signature of an image version, and when it was stored. */
export type WhichSignature = Named & Readonly<{ publisher: string; signed_at: string }>

/** A publisher's signature of an image, as it was stored at a time. */
export function findSignature(
  db: Queries,
  of: WhichSignature,
): Promise<Pick<ImageSignatureRow, 'document'> | undefined> {
  return signatureOf.first(db, of)
}

const signatureOf = statement<WhichSignature>()((db, value) =>
  db
    .selectFrom('image_signatures')
    .select('document')
    .where('name', '=', value('name'))
    .where('version', '=', value('version'))
    .where('publisher', '=', value('publisher'))
    .where('signed_at', '=', value('signed_at')),
)

/** Who signed which image, all of them or those of these names, without the signatures themselves. */
export function listSigners(
  db: Queries,
  names?: readonly string[],
): Promise<Omit<StoredSignature, 'document'>[]> {
  const query = db
    .selectFrom('image_signatures as s')
    .innerJoin('publishers as p', 'p.name', 's.publisher')
    .select(['s.name', 's.version', 's.publisher', 's.signed_at', 's.signed_by'])
    .select(['p.fingerprint', 'p.revoked_at'])
    .orderBy('s.signed_at')
    .orderBy('s.publisher')
  return (names === undefined ? query : query.where('s.name', 'in', [...names, ''])).execute()
}
