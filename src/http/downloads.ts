import { openCount } from './count.ts'

/** The places for downloads, while their bytes are sent. */
export interface Downloads {
  /** Takes a place; call the answer when it is over. Undefined: there is none. */
  begin(of: Download): (() => void) | undefined
  readonly count: () => number
}

/** Whose bytes are sent. */
export interface Download {
  readonly address: string
  readonly site: string
  readonly session?: string | undefined
  /** How many bytes have gone on its connection: only whether there are more than before counts. */
  readonly sent: () => number
  /** Ends its connection. */
  readonly cut: () => void
}

/** Bounds of one process. */
export interface DownloadLimits {
  /** Downloads whose bytes are being sent. */
  readonly maxDownloads: number
  /** The same of one boot session. */
  readonly maxDownloadsPerSession: number
}

interface Place {
  readonly download: Download
  sent: number
  /** When it was seen to have moved. */
  movedAt: number
}

/** Of the places, at most this part for one address: a whole site may be behind it, but not all sites. */
const shareOfOneAddress = 0.5
/** Where all places are taken, who has moved no byte for so long makes room. The slowest line that boots takes 64 KiB in less. */
const stallSeconds = 10
const lookAgainSeconds = 1

/**
 * Opens the places of one process. Who takes nothing holds his for `stallTimeoutSeconds`; where others want it, for ten seconds:
 * readers that never read keep nobody from downloading. `now` is in seconds.
 */
export function openDownloads(
  limits: DownloadLimits,
  now: () => number = () => performance.now() / 1000,
): Downloads {
  const places = new Set<Place>()
  /** By address, and by session. */
  const sending = openCount()
  let lookedAt = Number.NEGATIVE_INFINITY

  /** Looks who stands still; cuts those of `whose`. */
  function cutStalled(whose: (download: Download) => boolean): void {
    const at = now()
    if (at - lookedAt < lookAgainSeconds) return
    lookedAt = at
    for (const place of places) {
      const sent = place.download.sent()
      if (sent !== place.sent) Object.assign(place, { sent, movedAt: at })
      else if (at - place.movedAt >= stallSeconds && whose(place.download)) place.download.cut()
    }
  }

  /** Whose places are all taken: everybody's, or those of one address or session. Undefined: there is one. */
  function whoHasAll({ address, session }: Download): ((download: Download) => boolean) | undefined {
    if (places.size >= limits.maxDownloads) return () => true
    if (sending.of(address) >= Math.ceil(limits.maxDownloads * shareOfOneAddress))
      return (other) => other.address === address
    if (session !== undefined && sending.of(nameOf(session)) >= limits.maxDownloadsPerSession)
      return (other) => other.session === session
    return undefined
  }

  return {
    begin(download) {
      const whose = whoHasAll(download)
      if (whose !== undefined) {
        cutStalled(whose) // those that end so make room for who comes again
        return undefined
      }
      const { address, session } = download
      const place = { download, sent: download.sent(), movedAt: now() }
      const names = session === undefined ? [address] : [address, nameOf(session)]
      places.add(place)
      for (const name of names) sending.add(name, 1)
      return () => {
        if (!places.delete(place)) return
        for (const name of names) sending.add(name, -1)
      }
    },
    count: () => places.size,
  }
}

function nameOf(session: string): string {
  return `session ${session}`
}
