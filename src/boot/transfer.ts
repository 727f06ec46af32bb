import type { Arrival } from '../domain/span.ts'
import { isSendable, touchSession } from '../storage/sessions.ts'
import type { BootContext } from './context.ts'
import type { Download } from './download.ts'
import type { BootStory } from './story.ts'

/** What was sent of a download. */
export interface Sent {
  readonly bytes: number
  /** How long it took, where we saw it. */
  readonly seconds?: number
  /** The part that was asked for. */
  readonly part?: { readonly start: number; readonly end: number }
  readonly arrival?: Arrival | undefined
}

/** The sending of a download's bytes, as HTTP does it. */
export interface Transfer extends Pick<Sent, 'part' | 'arrival'> {
  /** Sends them, calling `onProgress` behind each write; resolves to how many the client's socket took. */
  readonly send: (onProgress: () => void) => Promise<number>
  /** Ends the sending at once: the client sees its connection break. */
  readonly cut: () => void
  /** Takes what failed beside the sending: not worth a boot, only a line in the log. */
  readonly onError: (error: unknown) => void
}

/** What a transfer asks while it runs. */
export type TransferStory = Pick<
  BootStory,
  'transfers' | 'clock' | 'mayTransfer' | 'renewTransfer' | 'countTransfer'
>

const renewEverySeconds = 60

/**
 * Runs a transfer of a session: ending the session cuts it, its progress keeps the session awake, and what it sent is
 * counted, also where it was cut off.
 */
export async function runTransfer(
  story: TransferStory,
  download: Download,
  transfer: Transfer,
): Promise<void> {
  const over = story.transfers.begin(download.session, transfer.cut)
  try {
    // The session may have ended between the check of the capability and the line above, which alone would miss it.
    if (!(await story.mayTransfer(download))) transfer.cut()
    const began = story.clock().getTime()
    const bytes = await transfer.send(renewing(story, download, transfer))
    const seconds = (story.clock().getTime() - began) / 1000
    const { part, arrival } = transfer
    const sent = { bytes, seconds, arrival, ...(part === undefined ? {} : { part }) }
    if (bytes > 0) await story.countTransfer(download, sent).catch(transfer.onError)
  } finally {
    over()
  }
}

/** Renews the idle timer as long as bytes move: a reader that stalls keeps no session awake. */
function renewing(story: TransferStory, download: Download, transfer: Transfer): () => void {
  let renewedAt = story.clock().getTime()
  const renew = async (): Promise<void> => {
    // Another replica may have ended the session: it cuts only the transfers of its own process.
    if (!(await story.renewTransfer(download))) transfer.cut()
  }
  return () => {
    const now = story.clock().getTime()
    if (now - renewedAt < renewEverySeconds * 1000) return
    renewedAt = now
    renew().catch(transfer.onError)
  }
}

/** Whether a session may be sent bytes. */
export function mayTransfer(context: BootContext, { session }: Download): Promise<boolean> {
  return isSendable(context.storage.db, session)
}

/** The same, and renews the idle timer of a session whose download is still running. */
export async function renewTransfer(context: BootContext, download: Download): Promise<boolean> {
  if (!(await mayTransfer(context, download))) return false
  await touchSession(context.storage.db, download.session, context.clock())
  return true
}

/** Counts what a transfer sent, which keeps its session awake: with the next spans that are written. */
export async function countTransfer(context: BootContext, download: Download, sent: Sent): Promise<void> {
  context.meter?.sent('session', sent.bytes)
  noteDownload(context, download, sent)
}

/** `kernel, cut at 1048576 of 14680064`, `filesystem, from 52428800 on`. */
function noteDownload(context: BootContext, { session, stage, artifact }: Download, sent: Sent): void {
  const { bytes, seconds, arrival } = sent
  const { start, end } = sent.part ?? { start: 0, end: bytes }
  const words = [
    artifact.role,
    ...(start > 0 ? [`from ${start} on`] : []),
    ...(start + bytes < end ? [`cut at ${start + bytes} of ${end}`] : []),
    ...(seconds === undefined ? ['sent by the proxy'] : []),
  ]
  const at = new Date(context.clock().getTime() - (seconds ?? 0) * 1000)
  const detail = words.join(', ')
  context.spans?.note({
    session,
    stage,
    kind: 'downloaded',
    at,
    seconds: seconds ?? 0,
    bytes,
    sentBy: context.clock(),
    detail,
    arrival,
  })
}

/** Notes that the client of a download was sent elsewhere for its bytes: how long that took, nobody tells us. */
export function noteRedirected(
  context: BootContext,
  { session, stage, artifact }: Download,
  { bytes, arrival }: { readonly bytes: number; readonly arrival?: Arrival | undefined },
): void {
  const detail = `${artifact.role}, sent to ${context.redirects?.origin}`
  const at = context.clock()
  context.spans?.note({ session, stage, kind: 'downloaded', at, seconds: 0, bytes, detail, arrival })
}
