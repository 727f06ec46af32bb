import { addBytes, findSession, touchSession } from '../storage/sessions.ts'
import type { BootContext } from './context.ts'
import type { Download } from './download.ts'
import type { BootStory } from './story.ts'

/** The sending of a download's bytes, as HTTP does it. */
export interface Transfer {
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
    const bytes = await transfer.send(renewing(story, download, transfer))
    if (bytes > 0) await story.countTransfer(download, bytes).catch(transfer.onError)
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

/** Whether a session may be sent bytes. One that became ready may still be read by its machine. */
export async function mayTransfer(context: BootContext, { session }: Download): Promise<boolean> {
  const row = await findSession(context.storage.db, session)
  return row !== undefined && (row.ended_at === null || row.state === 'ready')
}

/** The same, and renews the idle timer of a session whose download is still running. */
export async function renewTransfer(context: BootContext, download: Download): Promise<boolean> {
  if (!(await mayTransfer(context, download))) return false
  await touchSession(context.storage.db, download.session, context.clock())
  return true
}

/** Counts what a transfer sent. Not worth a boot when it fails: the bytes are already at the node. */
export async function countTransfer(context: BootContext, download: Download, bytes: number): Promise<void> {
  await context.storage.transaction((tx) =>
    addBytes(tx, download.session, download.stage, bytes, context.clock()),
  )
  context.meter?.sent('session', bytes)
}
