import { canVerifyDigests, type Facts } from '../domain/facts.ts'
import { Refusal } from '../domain/refusal.ts'
import { type ErrorCode, isPawlError } from '../errors.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import { bootBase } from './entry.ts'
import { epoxyStage1 } from './epoxy.ts'
import { firstHandover } from './handover.ts'
import { artifactOf, artifactUrl, described, mirrorUrl } from './image-answer.ts'
import { mint } from './mint.ts'
import type { Pinned } from './pin.ts'
import type { Work } from './work.ts'

/** iPXE takes a script; a Linux that boots by kexec takes JSON. */
export type Stage1Format = 'ipxe' | 'json'

/** What stage 1 answers. */
export interface Stage1Answer {
  readonly body: string
  readonly format: Stage1Format
  /** Whether the script checks digests: iPXE before 2.0.0 cannot, and TLS is the only guard of its downloads. */
  readonly digestsChecked: boolean
  /** Nothing was opened: the node is held. */
  readonly held?: boolean
}

/** What an opened session answers with. */
export interface Opened {
  readonly node: NodeRow
  readonly session: SessionRow
  readonly pinned: Pinned
  readonly facts: Facts
  readonly format: Stage1Format
}

/** Mints what stage 1 hands out, and renders it. A script that cannot be rendered refuses, and nothing was opened. */
export function answerStage1(work: Work, opened: Opened): Promise<Stage1Answer> {
  const { node, pinned, format } = opened
  return orDoesNotFit(node.name, () => {
    if (pinned.chain !== undefined) return epoxyStage1(work, opened, pinned.chain)
    return format === 'ipxe' ? script(work, opened) : document(work, opened)
  })
}

/** A secret that this server's key does not open is among them: seeds are rendered at stage 1. */
const faultsOfSettings: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'render-failed',
  'invalid',
  'key-unreadable',
])

/** Runs a step over stored settings: what cannot be read or rendered is an operator's matter, and refuses the node. */
export async function orDoesNotFit<T>(node: string, step: () => T | Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (error) {
    if (!isPawlError(error) || !faultsOfSettings.has(error.code)) throw error
    throw new Refusal('does-not-fit', { node, detail: { reason: error.message } })
  }
}

function script(work: Work, { node, session, pinned, facts }: Opened): Stage1Answer {
  const image = pinned.images?.stage2
  if (image === undefined) throw new Refusal('no-sequence', { node: node.name })
  const kernel = artifactOf(image, 'kernel', node.name)
  const initramfs = artifactOf(image, 'initramfs', node.name)
  const digestsChecked = canVerifyDigests(facts)
  const capability = mint(work, session, 'download-stage2')
  const body = work.context.templates.render('stage1.ipxe', {
    host: node.name,
    session: session.id,
    kernelUrl: artifactUrl(work, node.name, pinned, kernel),
    initramfsUrl: artifactUrl(work, node.name, pinned, initramfs),
    handoverUrl: `${bootBase(work.context.entry, node.name)}/handover`,
    capability: pinned.downloads === 'session' ? capability : '',
    handoverToken: mint(work, session, 'handover'),
    kernelArguments: image.arguments.split(' ').filter((word) => word !== ''),
    kernelSha256: kernel.digest,
    initramfsSha256: initramfs.digest,
    // An iPXE that cannot check what a cache sends is not sent to one.
    kernelMirrorUrl: (digestsChecked && mirrorUrl(work, pinned, kernel)) || '',
    initramfsMirrorUrl: (digestsChecked && mirrorUrl(work, pinned, initramfs)) || '',
    verifyDigests: digestsChecked,
    verifySignatures: pinned.imgverify ?? false,
    signaturesUrl: `${bootBase(work.context.entry, node.name)}/artifacts`,
    signatureCapability: capability,
    uefi: facts.platform === 'efi',
    syslogServer: work.context.settings.ipxeSyslog?.host ?? '',
    syslogTls: work.context.settings.ipxeSyslog?.tls ?? false,
    clientCertificate: pinned.evidence.includes('certificate') && facts.platform === 'efi',
  })
  return { body, format: 'ipxe', digestsChecked }
}

/** The same for a client that boots by kexec: what the script says, and the handover at once. */
function document(work: Work, { node, session, pinned, facts }: Opened): Stage1Answer {
  const image = pinned.images?.stage2
  if (image === undefined) throw new Refusal('no-sequence', { node: node.name })
  const body = {
    stage: 'stage1',
    session: session.id,
    ...described(work, node.name, pinned, image),
    capability: mint(work, session, 'download-stage2'),
    handover: firstHandover(work, { node, facts, session }, image),
  }
  return { body: JSON.stringify(body), format: 'json', digestsChecked: true }
}

/** Sends the node to its installed disk. */
export function answerLocal(work: Work, node: NodeRow, facts: Facts, format: Stage1Format): Stage1Answer {
  const body =
    format === 'json'
      ? JSON.stringify({ stage: 'local', host: node.name })
      : work.context.templates.render('local-boot.ipxe', { host: node.name, uefi: facts.platform === 'efi' })
  return { body, format, digestsChecked: false }
}

/** Tells a held node why, and to ask again. */
export function answerHeld(work: Work, node: NodeRow): Stage1Answer {
  const body = work.context.templates.render('held.ipxe', {
    host: node.name,
    attempts: node.reinstall_attempts,
  })
  return { body, format: 'ipxe', digestsChecked: false, held: true }
}
