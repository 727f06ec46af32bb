import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK } from 'jose'
import { addSeconds } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'
import type { ExtensionKeyRow } from '../storage/extension-tables.ts'
import {
  addExtensionKey,
  endExtensionKeys,
  forgetExtensionKeys,
  listExtensionKeys,
} from '../storage/extensions.ts'
import type { BootContext } from './context.ts'
import { inTransaction, type Work } from './work.ts'

/**
 * The keys that sign what extension services are asked: a set of their own, so that nothing signed for a service can pass for an
 * identity or an operator's session. They are in the database, sealed by the settings key, so all replicas have the same. Which of them
 * signs follows the clock: the newest whose time has come. A new one is published before it signs, the one before it afterwards.
 */

/** What keys need. */
export type ExtensionKeyContext = Pick<BootContext, 'storage' | 'sealer' | 'clock'>

/** How the JWTs are signed: ECDSA on P-256, which every JOSE library has. */
export const extensionAlgorithm = 'ES256'
/** A new key is published so long before it signs: services keep a key set for some minutes. */
export const keyLeadSeconds = 900
/** The one before is published so long after it signed last: a JWT lives 60 s, and clocks differ. */
export const keyTrailSeconds = 900
/** A key that is so old is replaced by itself. */
export const keyDays = 90
const keptSeconds = 86_400

/** A key that signs. */
export interface ExtensionSigner {
  readonly kid: string
  readonly key: KeyObject
}

/** The public halves (RFC 7517 §5). */
export interface ExtensionKeySet {
  readonly keys: readonly Readonly<Record<string, unknown>>[]
}

/** Every key; the first that asks makes the first one, which signs at once. */
export async function extensionKeys(context: BootContext): Promise<ExtensionKeyRow[]> {
  const known = await listExtensionKeys(context.storage.db)
  if (known.length > 0) return known
  await inTransaction(context, (work) => addKey(work, undefined, { atOnce: true }))
  return listExtensionKeys(context.storage.db)
}

/** Those that a JWT may be signed by, the next one included. */
export function publishedExtensionKeys(rows: readonly ExtensionKeyRow[], now: Date): ExtensionKeyRow[] {
  return rows.filter(({ ends_at }) => ends_at === null || ends_at > now.toISOString())
}

/** What is published at the address of the key set. */
export async function extensionKeySet(context: BootContext): Promise<ExtensionKeySet> {
  const rows = publishedExtensionKeys(await extensionKeys(context), context.clock())
  return { keys: rows.map(({ jwk }) => JSON.parse(jwk) as Record<string, unknown>) } // written by us
}

/** The one of these keys that signs at a time. */
export function signingExtensionKey(
  rows: readonly ExtensionKeyRow[],
  now: Date,
): ExtensionKeyRow | undefined {
  const published = publishedExtensionKeys(rows, now)
  return published.find(({ signs_from }) => signs_from <= now.toISOString()) ?? published.at(-1)
}

/** The key that signs now. Throws `key-unreadable` where another settings key has sealed it. */
export async function extensionSigner(context: BootContext): Promise<ExtensionSigner> {
  const row = signingExtensionKey(await extensionKeys(context), context.clock())
  if (row === undefined)
    throw new PawlError('key-unreadable', 'there is no key to sign extension requests with')
  try {
    return { kid: row.kid, key: createPrivateKey(context.sealer.open(row.sealed, placeOf(row.kid))) }
  } catch (cause) {
    throw new PawlError('key-unreadable', `the key ${row.kid} of extension requests cannot be opened`, {
      hint: 'restore pki/settings.key from the backup that the database came from, or make another key: pawl extension rotate-key --at-once',
      cause,
    })
  }
}

/** Who makes a key, for its event. */
interface Maker {
  readonly actor: string
  readonly source: string | null
  readonly via?: Readonly<Record<string, unknown>>
}

/**
 * Makes the next key; returns it, or undefined where another process was first. `atOnce`: it signs now, and the others are
 * withdrawn: what they signed is worth nothing from here on.
 */
export async function addKey(
  work: Work,
  newest: ExtensionKeyRow | undefined,
  { atOnce }: { readonly atOnce: boolean },
  by: Maker = { actor: 'server', source: null },
): Promise<ExtensionKeyRow | undefined> {
  const { tx, now, context } = work
  const signsFrom = atOnce ? now : addSeconds(now, keyLeadSeconds)
  const row = { ...(await newKey(context)), generation: (newest?.generation ?? 0) + 1 }
  const kept = { ...row, made_at: now.toISOString(), signs_from: signsFrom.toISOString(), ends_at: null }
  if (!(await addExtensionKey(tx, kept))) return undefined
  await endExtensionKeys(tx, row.generation, atOnce ? now : addSeconds(signsFrom, keyTrailSeconds))
  await work.event({
    kind: 'extension-key-made',
    node: null,
    session: null,
    actor: by.actor,
    source: by.source,
    detail: {
      kid: row.kid,
      signsFrom: kept.signs_from,
      replaces: newest?.kid ?? null,
      withdrawn: atOnce && newest !== undefined,
      ...by.via,
    },
  })
  return kept
}

/** Replaces a key that is old, and forgets those that are over. */
export async function tendExtensionKeys(context: BootContext): Promise<void> {
  const { storage, clock } = context
  const now = clock()
  const [newest] = await listExtensionKeys(storage.db)
  if (newest === undefined) return // nobody has asked for one
  if (newest.made_at <= addSeconds(now, -keyDays * 86_400).toISOString())
    await inTransaction(context, (work) => addKey(work, newest, { atOnce: false }))
  await forgetExtensionKeys(storage.db, addSeconds(now, -keptSeconds))
}

async function newKey({
  sealer,
}: Pick<BootContext, 'sealer'>): Promise<Pick<ExtensionKeyRow, 'kid' | 'jwk' | 'sealed'>> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = await exportJWK(createPublicKey(privateKey))
  const kid = await calculateJwkThumbprint(jwk)
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string // a PEM is text
  return {
    kid,
    jwk: JSON.stringify({ ...jwk, kid, alg: extensionAlgorithm, use: 'sig' }),
    sealed: sealer.seal(pem, placeOf(kid)),
  }
}

function placeOf(kid: string): string {
  return `extension-key/${kid}`
}
