import type { BootContext } from '../boot/context.ts'
import { quote } from '../domain/node.ts'
import {
  checkMaySign,
  expiryOf,
  type PublisherName,
  parseChain,
  parsePublisherName,
  writeChain,
} from '../domain/publisher.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { type PageRequest, pageOfPublishers } from '../storage/pages.ts'
import type { PublisherRow } from '../storage/publisher-tables.ts'
import {
  findPublisher,
  findPublisherByFingerprint,
  insertPublisher,
  listSigners,
  markRevoked,
} from '../storage/publishers.ts'
import { type By, type Change, change } from './change.ts'
import { type Listed, listed } from './listed.ts'
import { type ProposalView, propose } from './proposals.ts'

/** A publisher as operators see it. */
export interface PublisherView {
  readonly name: string
  /** SHA-256 of its leaf certificate. */
  readonly fingerprint: string
  readonly subject: string
  /** It signs nothing new from then on; what it has signed goes on booting. */
  readonly expiresAt: string
  /** PEM, the leaf first. */
  readonly certificates: string
  readonly createdAt: string
  readonly createdBy: string
  readonly revokedAt: string | null
  readonly revokedBy: string | null
}

/** A publisher as revoked. */
export interface RevokedPublisher extends PublisherView {
  /** Images that no other publisher signed: profiles that want signatures boot them no more. */
  readonly onlySigned: readonly string[]
}

/** A publisher to be: a name and its certificates, PEM, the leaf first. */
export interface NewPublisher {
  readonly name: string
  readonly certificates: string
}

/** What makes certificates: the CA, or its answer over a wire. Returns PEM, the leaf first, up to the root. */
export type CodeSigningIssuer = (asked: {
  publisher: PublisherName
  /** A certificate request, PKCS#10, PEM. */
  request: string
  now: Date
}) => Promise<string>

/** A publisher as registered, or the proposal of who may not register one alone. */
export type RegisteredPublisher =
  | { readonly publisher: PublisherView; readonly proposal: null }
  | { readonly publisher: null; readonly proposal: ProposalView }

/**
 * Lets the holder of a certificate sign images; what another than an admin asks for is proposed. Throws
 * `signature-invalid` for a certificate that may not, `exists`.
 */
export function registerPublisher(
  context: BootContext,
  by: By,
  asked: NewPublisher,
): Promise<RegisteredPublisher> {
  return change(context, by, async (change) => {
    if (by.role === 'admin') return { publisher: await registerPublisherIn(change, asked), proposal: null }
    return { publisher: null, proposal: await proposePublisher(change, asked) }
  })
}

async function proposePublisher(change: Change, asked: NewPublisher): Promise<ProposalView> {
  const name = parsePublisherName(asked.name)
  const chain = parseChain(asked.certificates)
  checkMaySign(chain, change.now)
  await refuseTaken(change.tx, name, chain.fingerprint)
  const document = { name, fingerprint: chain.fingerprint, certificates: writeChain(chain) }
  return propose(change, { kind: 'publisher', subject: name, document, why: null })
}

/** The same, as a part of another change: for those that a second person approves. */
export async function registerPublisherIn(
  { tx, now, by, note }: Change,
  asked: NewPublisher,
): Promise<PublisherView> {
  const name = parsePublisherName(asked.name)
  const chain = parseChain(asked.certificates)
  checkMaySign(chain, now)
  await refuseTaken(tx, name, chain.fingerprint)
  const row: PublisherRow = {
    name,
    fingerprint: chain.fingerprint,
    certificates: writeChain(chain),
    created_at: now.toISOString(),
    created_by: by.actor,
    revoked_at: null,
    revoked_by: null,
  }
  await insertPublisher(tx, row)
  const view = viewOf(row)
  const { fingerprint, subject, expiresAt } = view
  await note('publisher-registered', null, { publisher: name, fingerprint, subject, expiresAt })
  return view
}

/** Makes a code-signing certificate for whoever sends a request for one, and registers it. The key stays where it is. */
export async function issuePublisher(
  context: BootContext,
  by: By,
  asked: { readonly name: string; readonly request: string },
  issue: CodeSigningIssuer,
): Promise<PublisherView> {
  const publisher = parsePublisherName(asked.name)
  // Asked again in the transaction; here it saves a certificate that nobody would register.
  await refuseTaken(context.storage.db, publisher, undefined)
  const certificates = await issue({ publisher, request: asked.request, now: context.clock() })
  return change(context, by, (change) => registerPublisherIn(change, { name: publisher, certificates }))
}

/** Takes back that a publisher may sign, at once and for ever. Again it changes nothing. Throws `not-found`. */
export function revokePublisher(context: BootContext, by: By, name: string): Promise<RevokedPublisher> {
  return change(context, by, async ({ tx, now, note }) => {
    const row = await findPublisher(tx, name)
    if (row === undefined) throw noSuchPublisher(name)
    const onlySigned = await signedOnlyBy(tx, name)
    if (row.revoked_at !== null) return { ...viewOf(row), onlySigned }
    const revoked = { ...row, revoked_at: now.toISOString(), revoked_by: by.actor }
    await markRevoked(tx, name, revoked.revoked_at, revoked.revoked_by)
    await note('publisher-revoked', null, { publisher: name, fingerprint: row.fingerprint, onlySigned })
    return { ...viewOf(revoked), onlySigned }
  })
}

/** Shows publishers by name; revoked ones too. */
export async function showPublishers(db: Queries, page: PageRequest): Promise<Listed<PublisherView>> {
  return listed(await pageOfPublishers(db, page), viewOf)
}

/** Shows a publisher; throws `not-found`. */
export async function showPublisher(db: Queries, name: string): Promise<PublisherView> {
  const row = await findPublisher(db, name)
  if (row === undefined) throw noSuchPublisher(name)
  return viewOf(row)
}

/** The images that count as unsigned once a publisher is revoked. */
async function signedOnlyBy(db: Queries, publisher: string): Promise<string[]> {
  const signers = await listSigners(db)
  const refOf = ({ name, version }: { name: string; version: string }) => `${name}@${version}`
  const byOthers = new Set(
    signers.filter((one) => one.publisher !== publisher && one.revoked_at === null).map(refOf),
  )
  return signers
    .filter((one) => one.publisher === publisher && !byOthers.has(refOf(one)))
    .map(refOf)
    .sort()
}

/** A name is never given again: events and signatures of before would seem to be of the new one. */
async function refuseTaken(db: Queries, name: string, fingerprint: string | undefined): Promise<void> {
  const sameName = await findPublisher(db, name)
  if (sameName !== undefined) {
    throw new PawlError(
      'exists',
      `publisher "${name}" exists${sameName.revoked_at === null ? '' : ', revoked'}`,
      {
        hint: 'name the new one otherwise, with the year for example; the old one can be revoked when all is signed again',
      },
    )
  }
  const sameKey = fingerprint === undefined ? undefined : await findPublisherByFingerprint(db, fingerprint)
  if (sameKey === undefined) return
  throw new PawlError('exists', `this certificate is publisher "${sameKey.name}"'s`)
}

function noSuchPublisher(name: string): PawlError {
  return new PawlError('not-found', `publisher ${quote(name)} does not exist`, {
    hint: 'list them with pawl publisher list',
  })
}

function viewOf(row: PublisherRow): PublisherView {
  const chain = parseChain(row.certificates)
  return {
    name: row.name,
    fingerprint: row.fingerprint,
    subject: (chain.leaf.subject ?? '').replaceAll('\n', ', '),
    expiresAt: expiryOf(chain).toISOString(),
    certificates: row.certificates,
    createdAt: row.created_at,
    createdBy: row.created_by,
    revokedAt: row.revoked_at,
    revokedBy: row.revoked_by,
  }
}
