import { findSession } from '../storage/sessions.ts'
import type { BootContext } from './context.ts'
import { type Download, recordBytes, renewDownload } from './download.ts'

/** The sending of a download's bytes, as HTTP does it. */
export interface Transfer {
  /** Sends them, calling `onProgress` behind each write; resolves to how many the client's socket took. */
  readonly send: (onProgress: () => void) => Promise<number>
  /** Ends the sending at once: the client sees its connection break. */
  readonly cut: () => void
  /** Takes what failed beside the sending: not worth a boot, only a line in the log. */
  readonly onError: (error: unknown) => void
}

const renewEverySeconds = 60

/**
 * Runs a transfer of a session: ending the session cuts it, its progress keeps the session awake, and what it sent is
 * counted, also where it was cut off.
 */
export async function runTransfer(
  context: BootContext,
  download: Download,
  transfer: Transfer,
): Promise<void> {
  const over = context.transfers.begin(download.session, transfer.cut)
  try {
    // The session may have ended between the check of the capability and the line above, which alone would miss it.
    if (await hasEnded(context, download)) transfer.cut()
    const bytes = await transfer.send(renewing(context, download, transfer))
    if (bytes > 0) await recordBytes(context, download, bytes).catch(transfer.onError)
  } finally {
    over()
  }
}

/** Renews the idle timer as long as bytes move: a reader that stalls keeps no session awake. */
function renewing(context: BootContext, download: Download, transfer: Transfer): () => void {
  let renewedAt = context.clock().getTime()
  const renew = async (): Promise<void> => {
    // Another replica may have ended the session: it cuts only the transfers of its own process.
    if (await hasEnded(context, download)) transfer.cut()
    else await renewDownload(context, download)
  }
  return () => {
    const now = context.clock().getTime()
    if (now - renewedAt < renewEverySeconds * 1000) return
    renewedAt = now
    renew().catch(transfer.onError)
  }
}

/** Whether the session ended in a way that stops its downloads. One that became ready may still be read by its machine. */
async function hasEnded(context: BootContext, { session }: Download): Promise<boolean> {
  const row = await findSession(context.storage.db, session)
  return row === undefined || (row.ended_at !== null && row.state !== 'ready')
}
