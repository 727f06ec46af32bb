import { type ImageSource, parseImageSource } from '../domain/channel.ts'
import { digestPattern } from '../domain/digest.ts'
import { type Artifact, parseManifest } from '../domain/image.ts'
import { sourcesOf } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import type { StageName } from '../domain/stage.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash, type TokenKind } from '../domain/token.ts'
import { hasServed } from '../storage/channels.ts'
import type { Queries } from '../storage/database.ts'
import { listEvents } from '../storage/events.ts'
import { findImage, listProfiles, readProfile } from '../storage/fleet.ts'
import { listHolders } from '../storage/images.ts'
import { addProgress } from '../storage/sessions.ts'
import { findToken } from '../storage/tokens.ts'
import { requireCertificate } from './certificate.ts'
import type { BootContext } from './context.ts'
import { isOverdue } from './end-session.ts'
import { type PinnedImage, readPinned } from './pin.ts'
import { type Asking, inTransaction, recordingRefusals } from './work.ts'

/** A download as it is asked for. */
export interface DownloadRequest extends Asking {
  readonly role: string
  readonly capability: string | undefined
}

/** What a capability opened. */
export interface Download {
  readonly session: string
  readonly node: string
  /** The stage that the bytes are counted for. */
  readonly stage: StageName
  readonly artifact: Artifact
  /** The image that it is of. */
  readonly image: PinnedImage
  /** Whether its client may be sent to the object storage: agents may, never iPXE, whose client trusts our root alone. */
  readonly redirects: boolean
  /** The SHA-256 of the root that its client knows, where the session says. */
  readonly root: string | undefined
}

/** Each capability's image, and the stage during which it is good. */
const capabilities: Readonly<Partial<Record<TokenKind, { image: 'stage2' | 'stage3'; stage: StageName }>>> = {
  'download-stage2': { image: 'stage2', stage: 'stage1' },
  'download-stage3': { image: 'stage3', stage: 'stage2' },
}

/** Checks a download's capability when the request starts; the transfer itself is cut only when its session ends. */
export function openDownload(context: BootContext, request: DownloadRequest): Promise<Download> {
  return recordingRefusals(context, request, () => open(context, request))
}

async function open(context: BootContext, request: DownloadRequest): Promise<Download> {
  const { host, role, capability } = request
  if (capability === undefined || capability === '') throw new Refusal('no-token')
  const presented = parseToken(capability)
  if (presented === undefined) throw new Refusal('malformed-token')
  const { db } = context.storage
  const found = await findToken(db, presented.id)
  if (found === undefined) throw new Refusal('unknown-token')
  const { token, session, node } = found
  if (node.name !== host) throw new Refusal('foreign-token', { detail: { givenTo: node.name } })
  const subject = { node: node.name, session: session.id }
  if (!hashesEqual(hashSecret(presented.secret), token.secret_hash as SecretHash))
    throw new Refusal('wrong-token-secret', subject)
  const opens = capabilities[token.kind]
  if (opens === undefined)
    throw new Refusal('wrong-order', { ...subject, detail: { tokenOpens: token.kind } })
  if (session.ended_at !== null) throw new Refusal('session-ended', subject)
  if (token.retired_at !== null) throw new Refusal('retired-token', subject)
  const now = context.clock()
  if (isOverdue(session, now, context.settings.sessionIdleSeconds))
    throw new Refusal('session-expired', subject)
  const pinned = readPinned(session.pinned)
  // What the full system is made of is for the agent alone, which has the certificate; the minimal one is for the firmware.
  if (opens.image === 'stage3' && pinned.evidence.includes('certificate')) {
    await requireCertificate(db, node, request.certificate, { now, source: request.source })
  }
  const image = pinned.images?.[opens.image]
  const artifact = Object.values(image?.artifacts ?? {}).find((candidate) => candidate.role === role)
  if (image === undefined || artifact === undefined)
    throw new Refusal('no-such-artifact', {
      ...subject,
      detail: { image: image?.ref, role: role.slice(0, 32) },
    })
  const redirects = pinned.redirects === true && opens.image === 'stage3'
  return {
    session: session.id,
    node: node.name,
    stage: opens.stage,
    artifact,
    image,
    redirects,
    root: pinned.root,
  }
}

/**
 * Where the client of a download is sent for its bytes; undefined where we send them ourselves. `bytes` are counted as if they
 * had come: nobody tells us what the storage sent. The first time for each artifact is an event.
 */
export async function redirectDownload(
  context: BootContext,
  download: Download,
  { bytes, source }: { readonly bytes: number; readonly source: string },
): Promise<string | undefined> {
  const { redirects } = context
  if (redirects === undefined || !download.redirects) return undefined
  const { node, session, stage, artifact } = download
  const url = await redirects.urlOf(artifact.digest)
  await inTransaction(context, async (work) => {
    work.afterCommit(() => context.meter?.sent('redirected', bytes))
    await addProgress(work.tx, [{ session, stage, bytes, at: work.now }])
    const detail = { role: artifact.role, digest: artifact.digest, to: redirects.origin }
    const kind = 'download-redirected'
    const before = await listEvents(work.tx, { session, kind, limit: 10 })
    if (before.some((event) => JSON.parse(event.detail).role === artifact.role)) return
    await work.event({ kind, node, session, actor: 'node', source, detail })
  })
  return url
}

/**
 * Finds an artifact that some profile with `downloads: digest` lets anyone fetch; undefined where none does. Only what
 * such a profile names is open, itself or through a channel: all other images stay private to their sessions.
 */
export async function findOpenArtifact(db: Queries, digest: string): Promise<Artifact | undefined> {
  // A database is not asked for what it cannot hold: PostgreSQL takes no NUL.
  if (!new RegExp(digestPattern).test(digest)) return undefined
  const holders = await listHolders(db, digest)
  if (holders.length === 0) return undefined
  const open = await openSources(db)
  for (const { name, version, role } of holders) {
    if (!(await isOpen(db, open, name, version))) continue
    const row = await findImage(db, name, version)
    const { artifacts } = parseManifest(JSON.parse(row?.manifest ?? 'null'))
    return artifacts.find((artifact) => artifact.role === role)
  }
  return undefined
}

async function openSources(db: Queries): Promise<ImageSource[]> {
  const open = (await listProfiles(db)).map(readProfile).filter((profile) => profile.downloads === 'digest')
  return open.flatMap(sourcesOf).map(parseImageSource)
}

async function isOpen(
  db: Queries,
  open: readonly ImageSource[],
  name: string,
  version: string,
): Promise<boolean> {
  for (const source of open) {
    if (source.name !== name) continue
    if (source.kind === 'version' ? source.version === version : await hasServed(db, source, version))
      return true
  }
  return false
}
