import type { SigningKeyRow } from '../storage/signing-key-tables.ts'
import type { BootContext } from './context.ts'
import {
  addKey,
  type KeyRing,
  type KeySet,
  keySet,
  makeKey,
  type NewKey,
  openSigner,
  type RingSigner,
  ringKeys,
  tendRing,
} from './key-ring.ts'
import { inTransaction, type Work } from './work.ts'

/** The keys that sign what extension services are asked: nothing signed for a service can pass for an identity. */
export const extensionRing: KeyRing = {
  table: 'extension_keys',
  place: 'extension-key',
  made: 'extension-key-made',
  signs: 'extension requests',
  replace: 'pawl extension rotate-key --at-once',
}

/** A new key is published so long before it signs: services keep a key set for some minutes. */
const leadSeconds = 900
/** The one before is published so long after it signed last: a JWT lives 60 s, and clocks differ. */
const trailSeconds = 900
/** A key that has signed for so long is replaced by itself. */
const keyDays = 90

/** Every key, the newest first; the first that asks makes the first one, which signs at once. */
export function extensionKeys(context: BootContext): Promise<SigningKeyRow[]> {
  return ringKeys(extensionRing, context)
}

/** What is published at the address of the key set. */
export function extensionKeySet(context: BootContext): Promise<KeySet> {
  return keySet(extensionRing, context)
}

/** The key that signs now. Throws `key-unreadable` where another settings key has sealed it. */
export function extensionSigner(context: BootContext): Promise<RingSigner> {
  return openSigner(extensionRing, context)
}

/** Makes a key; nothing knows it yet. */
export function makeExtensionKey(context: BootContext): Promise<NewKey> {
  return makeKey(extensionRing, context)
}

/** Who makes a key, for its event. */
interface Maker {
  readonly actor: string
  readonly source: string | null
  readonly via?: Readonly<Record<string, unknown>>
}

/** Adds the next key; false where another process was first. `atOnce`: it signs now, and the others are withdrawn. */
export async function addExtensionKey(
  work: Work,
  made: NewKey,
  newest: SigningKeyRow | undefined,
  { atOnce }: { readonly atOnce: boolean },
  { actor, source, via }: Maker = { actor: 'server', source: null },
): Promise<boolean> {
  const handover = { leadSeconds, trailSeconds, withdraw: atOnce }
  const row = await addKey(extensionRing, work, made, newest, handover)
  if (row === undefined) return false
  const withdrawn = atOnce && newest !== undefined
  const detail = { kid: row.kid, signsFrom: row.signs_from, replaces: newest?.kid ?? null, withdrawn, ...via }
  await work.event({ kind: extensionRing.made, node: null, session: null, actor, source, detail })
  return true
}

/** Replaces a key that is old, and forgets those that are over. Where nobody has asked for a key there is none. */
export async function tendExtensionKeys(context: BootContext): Promise<void> {
  const due = await tendRing(extensionRing, context, keyDays)
  if (due === undefined) return
  const made = await makeExtensionKey(context)
  await inTransaction(context, (work) => addExtensionKey(work, made, due, { atOnce: false }))
}
