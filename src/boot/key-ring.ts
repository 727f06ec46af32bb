import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { addSeconds } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'
import type { SigningKeyRow } from '../storage/signing-key-tables.ts'
import {
  addSigningKey,
  endSigningKeys,
  forgetSigningKeys,
  listSigningKeys,
  type SigningKeyTable,
  withdrawSigningKeys,
} from '../storage/signing-keys.ts'
import type { BootContext } from './context.ts'
import { inTransaction, type Work } from './work.ts'

/**
 * Keys that sign for one purpose, the same in every process and replica on one database: the private half is sealed by the settings
 * key, as secret settings are. Which of them signs follows the clock, so no process has to tell another: the newest whose time has come.
 * The next one is published before its time comes, and the one before until all it signed has ended.
 *
 * Each purpose has a ring of its own, with a table, an issuer and a place to seal for: no key of one can be taken for another's.
 */
export interface KeyRing {
  readonly table: SigningKeyTable
  /** What private halves are sealed for. */
  readonly place: string
  /** The event that says that a key was made. */
  readonly made: 'identity-key-made' | 'extension-key-made'
  /** What its keys sign, for errors. */
  readonly signs: string
  /** The command that makes another key where one cannot be opened. */
  readonly replace: string
}

/** How all rings sign: ECDSA on P-256. Every JOSE library has it; Kubernetes, Vault, Nomad and clouds take it. */
export const ringAlgorithm = 'ES256'

/** The public halves, as a JSON Web Key Set (RFC 7517 §5). */
export interface KeySet {
  readonly keys: readonly Readonly<Record<string, unknown>>[]
}

/** A key that signs now. */
export interface RingSigner {
  readonly kid: string
  readonly key: KeyObject
}

/** A key that was just made; nothing knows it yet. */
export type NewKey = Pick<SigningKeyRow, 'kid' | 'jwk' | 'sealed'>

type Sealing = Pick<BootContext, 'sealer'>

/** Makes a key. Not within a transaction: it takes its time. */
export async function makeKey({ place }: KeyRing, { sealer }: Sealing): Promise<NewKey> {
  const { calculateJwkThumbprint, exportJWK } = await import('jose') // not at the start: keys are made rarely
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = await exportJWK(createPublicKey(privateKey))
  const kid = await calculateJwkThumbprint(jwk)
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string // a PEM is text
  return {
    kid,
    jwk: JSON.stringify({ ...jwk, kid, alg: ringAlgorithm, use: 'sig' }),
    sealed: sealer.seal(pem, `${place}/${kid}`),
  }
}

/** All keys, the newest first; who asks first makes the first one, which signs at once: nobody keeps a key set without it. */
export async function ringKeys(ring: KeyRing, context: BootContext): Promise<SigningKeyRow[]> {
  const known = await listSigningKeys(context.storage.db, ring.table)
  if (known.length > 0) return known
  const made = await makeKey(ring, context)
  await inTransaction(context, async (work) => {
    const row = await addKey(ring, work, made, undefined, { leadSeconds: 0, trailSeconds: 0 })
    if (row === undefined) return // another process was first
    const detail = { kid: row.kid, signsFrom: row.signs_from, replaces: null }
    await work.event({
      kind: ring.made,
      ...{ node: null, session: null, actor: 'server', source: null, detail },
    })
  })
  return listSigningKeys(context.storage.db, ring.table)
}

/** Those that something may be signed by, the next one included. */
export function publishedKeys(rows: readonly SigningKeyRow[], now: Date): SigningKeyRow[] {
  return rows.filter(({ ends_at }) => ends_at === null || ends_at > now.toISOString())
}

/** The one of these keys, the newest first, that signs at a time. */
export function signingKey(rows: readonly SigningKeyRow[], now: Date): SigningKeyRow | undefined {
  const published = publishedKeys(rows, now)
  return published.find(({ signs_from }) => signs_from <= now.toISOString()) ?? published.at(-1)
}

/** What is published. */
export async function keySet(ring: KeyRing, context: BootContext): Promise<KeySet> {
  const rows = publishedKeys(await ringKeys(ring, context), context.clock())
  return { keys: rows.map(({ jwk }) => JSON.parse(jwk) as Record<string, unknown>) } // written by us
}

/** The key that signs now. Throws `key-unreadable`. */
export async function openSigner(ring: KeyRing, context: BootContext): Promise<RingSigner> {
  const row = signingKey(await ringKeys(ring, context), context.clock())
  if (row === undefined) throw new PawlError('key-unreadable', `there is no key to sign ${ring.signs} with`)
  return { kid: row.kid, key: openKey(ring, context, row) }
}

/** The private half. Throws `key-unreadable` where another settings key has sealed it. */
export function openKey(
  { place, signs, replace }: KeyRing,
  { sealer }: Sealing,
  { kid, sealed }: SigningKeyRow,
): KeyObject {
  try {
    return createPrivateKey(sealer.open(sealed, `${place}/${kid}`))
  } catch (cause) {
    throw new PawlError('key-unreadable', `the key ${kid} of ${signs} cannot be opened`, {
      hint: `restore pki/settings.key from the backup that the database came from, or make another key: ${replace}`,
      cause,
    })
  }
}

/** How a key comes into its place. */
export interface Handover {
  /** It is published so long before it signs. */
  readonly leadSeconds: number
  /** Those before are published so long after that. */
  readonly trailSeconds: number
  /** They are withdrawn now, and it signs at once: what they signed is worth nothing from here on. */
  readonly withdraw?: boolean
}

/** Adds the key behind `newest`; undefined where another process was first. The event is the caller's. */
export async function addKey(
  { table }: KeyRing,
  { tx, now }: Pick<Work, 'tx' | 'now'>,
  made: NewKey,
  newest: SigningKeyRow | undefined,
  { leadSeconds, trailSeconds, withdraw = false }: Handover,
): Promise<SigningKeyRow | undefined> {
  const signsFrom = withdraw ? now : addSeconds(now, leadSeconds)
  const row: SigningKeyRow = {
    ...made,
    generation: (newest?.generation ?? 0) + 1,
    made_at: now.toISOString(),
    signs_from: signsFrom.toISOString(),
    ends_at: null,
  }
  if (!(await addSigningKey(tx, table, row))) return undefined
  if (withdraw) await withdrawSigningKeys(tx, table, row.generation)
  else await endSigningKeys(tx, table, row.generation, addSeconds(signsFrom, trailSeconds).toISOString())
  return row
}

/** Forgets keys that are over. Returns the newest where it has signed for so many days: its successor is due. */
export async function tendRing(
  { table }: KeyRing,
  { storage, clock }: Pick<BootContext, 'storage' | 'clock'>,
  days: number,
): Promise<SigningKeyRow | undefined> {
  const now = clock()
  await forgetSigningKeys(storage.db, table, now.toISOString())
  const [newest] = await listSigningKeys(storage.db, table)
  if (newest === undefined) return undefined
  return newest.signs_from <= addSeconds(now, -days * 86_400).toISOString() ? newest : undefined
}
