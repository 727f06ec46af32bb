import { bootNic } from '../domain/boot-nic.ts'
import type { Facts } from '../domain/facts.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import { bootBase } from './entry.ts'
import { artifactEntry } from './image-answer.ts'
import { mint } from './mint.ts'
import { type Pinned, type PinnedImage, readPinned } from './pin.ts'
import type { Work } from './work.ts'

/** Of whom a handover tells. */
export interface HandoverSubject {
  readonly node: NodeRow
  readonly session: SessionRow
  readonly facts: Facts
}

/** The handover that opens the minimal system: which NIC, what time, whom to trust, and the tokens of what comes next. */
export function firstHandover(
  work: Work,
  subject: HandoverSubject,
  image: PinnedImage,
): Record<string, unknown> {
  return {
    ...basics(work, subject),
    tokens: {
      stage2: mint(work, subject.session, 'stage2'),
      report: mint(work, subject.session, 'report'),
    },
    digests: { kernel: image.artifacts.kernel?.digest, initramfs: image.artifacts.initramfs?.digest },
  }
}

/**
 * The handover that the minimal system packs for the full one, adding the report token it has: only its hash is here.
 * `capability` opens the filesystem's download.
 */
export function nextHandover(
  work: Work,
  subject: HandoverSubject,
  pinned: Pinned,
  image: PinnedImage,
  capability: string,
): Record<string, unknown> {
  const { node, session } = subject
  const stage3 = mint(work, session, 'stage3')
  const filesystem = image.artifacts.filesystem
  return {
    ...basics(work, subject),
    tokens: { stage3 },
    ...(filesystem === undefined
      ? {}
      : {
          filesystem: { ...artifactEntry(work, node.name, pinned, filesystem), capability },
        }),
  }
}

function basics(work: Work, { node, session, facts }: HandoverSubject): Record<string, unknown> {
  return {
    version: 1,
    host: node.name,
    session: session.id,
    base: bootBase(work.context.entry, node.name),
    ca: work.context.entry.ca,
    time: work.now.toISOString(),
    ...(readPinned(session.pinned).evidence.includes('certificate') ? { certificate: true } : {}),
    ...downloadsOf(work, session),
    nic: bootNic(facts, { publicUrl: work.context.entry.publicUrl, source: session.source }),
  }
}

/** Where agents may be sent for artifacts, and no further: they follow a redirect to this origin only. */
function downloadsOf({ context }: Work, session: SessionRow): Record<string, unknown> {
  const pinned = readPinned(session.pinned)
  const { redirects, artifactCa } = context
  const { origin, ca } = pinned.redirects === true ? (redirects ?? {}) : {}
  const downloads = {
    ...(origin === undefined ? {} : { origin }),
    ...(ca === undefined ? {} : { ca }),
    ...(pinned.downloads === 'digest' && artifactCa !== undefined ? { mirrorCa: artifactCa } : {}),
  }
  return Object.keys(downloads).length === 0 ? {} : { downloads }
}
