import type { BootContext } from '../boot/context.ts'
import {
  authorityOf,
  type ChainPlace,
  type CheckpointStatement,
  digestOfCheckpoint,
  noCheckpoint,
  placesDigest,
} from '../domain/checkpoint.ts'
import { type ChainEnds, systemChain } from '../domain/event.ts'
import type { TrimStatement } from '../domain/trim.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { CheckpointRow } from '../storage/audit-tables.ts'
import { allChains } from '../storage/chains.ts'
import {
  findCheckpoint,
  findCheckpointKey,
  insertCheckpoint,
  insertCheckpointKey,
  lastCheckpoint,
  listCheckpointKeys,
  listCheckpoints,
  placesAt,
  retireCheckpointKeys,
} from '../storage/checkpoints.ts'
import type { Queries } from '../storage/database.ts'
import { type By, change } from './change.ts'
import { requireExtends } from './checkpoint-refusal.ts'
import { byServer } from './operators.ts'

/** What signs checkpoints: `pki/checkpoint-key.ts`, or a test's own. */
export interface CheckpointSigner {
  key(): Promise<{ readonly kid: string; readonly jwk: Readonly<Record<string, unknown>> }>
  sign(statement: CheckpointStatement): Promise<string>
  signTrim(statement: TrimStatement): Promise<string>
  next(): Promise<{ readonly kid: string; readonly jwk: Readonly<Record<string, unknown>>; use(): void }>
}

/** A checkpoint as operators see it. */
export interface CheckpointView {
  readonly seq: number
  readonly at: string
  readonly kid: string
  readonly chains: number
  readonly events: number
  /** SHA-256 of `jws`. */
  readonly digest: string
  /** The signed statement. */
  readonly jws: string
}

/** A checkpoint with where every chain was; null where that list is not kept any more. */
export interface CheckpointWithPlaces extends CheckpointView {
  readonly places: readonly ChainPlace[] | null
}

/** A public key as it is published, and when it signed. */
export interface CheckpointKeySet {
  readonly keys: readonly Readonly<Record<string, unknown>>[]
}

/** Signs where every chain is now. Throws `conflict` where one does not go on from the last checkpoint. */
export async function makeCheckpoint(
  context: BootContext,
  signer: CheckpointSigner,
  by: By,
): Promise<CheckpointWithPlaces> {
  const now = await survey(context)
  if (now.last !== undefined) await requireExtends(context, now.last.seq)
  return store(context, signer, by, now)
}

/**
 * Signs where every chain is, when the last checkpoint is `seconds` old and something happened since; returns undefined
 * where none is due. Of several servers on one database one makes it.
 */
export async function checkpointWhenDue(
  context: BootContext,
  signer: CheckpointSigner,
  seconds: number,
): Promise<CheckpointWithPlaces | undefined> {
  const last = await lastCheckpoint(context.storage.db)
  if (last !== undefined && context.clock().getTime() - Date.parse(last.at) < seconds * 1000) return undefined
  const now = await survey(context)
  if (!hasHappened(now)) return undefined
  if (now.last !== undefined) await requireExtends(context, now.last.seq)
  try {
    return await store(context, signer, byServer, now)
  } catch (error) {
    if (isPawlError(error, 'conflict')) return undefined // another server was first
    throw error
  }
}

/** Where the chains are, and where the last checkpoint says. */
interface Survey {
  readonly places: readonly ChainPlace[]
  readonly last: CheckpointRow | undefined
  /** Those that are not where the last checkpoint says. */
  readonly moved: readonly ChainPlace[]
  readonly known: ReadonlyMap<string, ChainPlace>
}

async function survey({ storage: { db } }: BootContext): Promise<Survey> {
  const last = await lastCheckpoint(db)
  const known = new Map((last === undefined ? [] : await placesAt(db, last.seq)).map((p) => [p.chain, p]))
  const places = (await allChains(db)).map(placeOf) // one statement: one moment
  const moved = places.filter((place) => !isSame(place, known.get(place.chain)))
  return { places, last, moved, known }
}

/** A checkpoint's own event is nothing that needs another checkpoint. */
function hasHappened({ moved, known }: Survey): boolean {
  return moved.some(({ chain, seq }) => chain !== systemChain || seq !== (known.get(chain)?.seq ?? 0) + 1)
}

async function store(
  context: BootContext,
  signer: CheckpointSigner,
  by: By,
  { places, last, moved }: Survey,
): Promise<CheckpointWithPlaces> {
  const now = context.clock()
  const key = await usableKey(context.storage.db, signer)
  const statement: CheckpointStatement = {
    issuer: context.settings.publicUrl,
    authority: authorityOf(context.rootCertificate()),
    at: new Date(Math.floor(now.getTime() / 1000) * 1000).toISOString(),
    seq: (last?.seq ?? 0) + 1,
    before: last?.digest ?? noCheckpoint,
    chains: places.length,
    events: places.reduce((sum, place) => sum + place.seq, 0),
    places: placesDigest(places),
  }
  const { seq, at, chains, events } = statement
  const jws = await signer.sign(statement)
  const row = { seq, jws, digest: digestOfCheckpoint(jws), at, kid: key.kid, chains, events }
  await change(context, by, async ({ tx, note }) => {
    const known = { kid: key.kid, jwk: JSON.stringify(key.jwk), created_at: at, retired_at: null }
    await insertCheckpointKey(tx, known)
    await insertCheckpoint(tx, row, moved) // two that sign the same number: the second gets `conflict`
    await note('checkpoint-signed', null, { ...row, before: last?.seq ?? null })
  })
  return { ...row, places }
}

/** The key that signs; one that was retired (by another server on this database) is replaced first. */
export async function usableKey(db: Queries, signer: CheckpointSigner): ReturnType<CheckpointSigner['key']> {
  const key = await signer.key()
  const known = await findCheckpointKey(db, key.kid)
  if (known?.retired_at == null) return key
  const next = await signer.next()
  next.use()
  return next
}

/**
 * Takes another key for the checkpoints from here on. The last word of the old one is a checkpoint that covers the event
 * which names the new one: who trusts the old key can go on to the new. Cut off anywhere, one of the two signs on.
 */
export async function replaceCheckpointKey(
  context: BootContext,
  signer: CheckpointSigner,
  by: By,
): Promise<CheckpointKeySet> {
  const { db } = context.storage
  const last = await lastCheckpoint(db)
  if (last !== undefined) await requireExtends(context, last.seq) // before anything is changed
  const old = await usableKey(db, signer)
  const { use, kid, jwk } = await signer.next()
  const at = context.clock().toISOString()
  await change(context, by, async ({ tx, note }) => {
    await insertCheckpointKey(tx, { kid, jwk: JSON.stringify(jwk), created_at: at, retired_at: null })
    await note('checkpoint-key-replaced', null, { before: { kid: old.kid }, after: { kid } })
  })
  await makeCheckpoint(context, signer, by)
  use()
  await context.storage.transaction((tx) => retireCheckpointKeys(tx, at, kid))
  return checkpointKeys(db)
}

/** Every key that ever signed a checkpoint, as a JSON Web Key Set. */
export async function checkpointKeys(db: Queries): Promise<CheckpointKeySet> {
  const rows = await listCheckpointKeys(db)
  return {
    keys: rows.map((row) => ({
      ...(JSON.parse(row.jwk) as Record<string, unknown>), // written by us
      createdAt: row.created_at,
      retiredAt: row.retired_at,
    })),
  }
}

/** Checkpoints, the newest first. */
export async function pageOfCheckpoints(
  db: Queries,
  { before, limit }: { before: number | undefined; limit: number },
): Promise<{ items: CheckpointView[]; next: number | null }> {
  const rows = await listCheckpoints(db, { before, limit: limit + 1 })
  const items = rows.slice(0, limit)
  return { items, next: rows.length > limit ? (items.at(-1)?.seq ?? null) : null }
}

/** One checkpoint, with where every chain was. Throws `not-found`. */
export async function showCheckpoint(db: Queries, seq: number | 'last'): Promise<CheckpointWithPlaces> {
  const row = seq === 'last' ? await lastCheckpoint(db) : await findCheckpoint(db, seq)
  if (row === undefined) {
    throw new PawlError(
      'not-found',
      seq === 'last' ? 'there is no checkpoint yet' : `there is no checkpoint ${seq}`,
      {
        hint: 'make one with pawl event checkpoint',
      },
    )
  }
  const places = await placesAt(db, row.seq)
  return { ...row, places: isListOf(row, places) ? places : null }
}

/** Retention forgets where chains were at checkpoints beyond its time. */
function isListOf({ chains, events }: CheckpointRow, places: readonly ChainPlace[]): boolean {
  return places.length === chains && places.reduce((sum, place) => sum + place.seq, 0) === events
}

function placeOf({ name, baseSeq, headSeq, headHash }: ChainEnds): ChainPlace {
  return { chain: name, baseSeq, seq: headSeq, hash: headHash }
}

function isSame(place: ChainPlace, other: ChainPlace | undefined): boolean {
  return (
    other !== undefined &&
    place.seq === other.seq &&
    place.hash === other.hash &&
    place.baseSeq === other.baseSeq
  )
}
