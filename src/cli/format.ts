/** How times, durations and sizes are written, everywhere in the command line. Times are UTC: fleets span time zones. */

/** `2026-11-21 06:00:00Z`; a text that is no time stays as it is. */
export function formatTime(iso: string): string {
  const time = new Date(iso)
  return Number.isNaN(time.getTime()) ? iso : `${time.toISOString().slice(0, 19).replace('T', ' ')}Z`
}

/** `06:00:00Z`, for lines below one that has the date. */
export function formatClock(iso: string): string {
  return formatTime(iso).slice(11)
}

/** How long ago, in the largest unit that fits: `40 s`, `5 min`, `3 h`, `12 d`. */
export function formatAge(iso: string, now: Date): string {
  const seconds = Math.max(0, Math.floor((now.getTime() - Date.parse(iso)) / 1000))
  if (Number.isNaN(seconds)) return iso
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  return seconds < 2 * 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`
}

/** How long until a time, as `formatAge` writes how long ago: `in 25 s`; `now` where it is over. */
export function formatUntil(iso: string, now: Date): string {
  const seconds = Math.ceil((Date.parse(iso) - now.getTime()) / 1000)
  return seconds <= 0 ? 'now' : `in ${formatAge(now.toISOString(), new Date(now.getTime() + seconds * 1000))}`
}

/** Seconds with one decimal. */
export function formatSeconds(seconds: number): string {
  return seconds.toFixed(1)
}

/** Megabytes (10^6) with one decimal, without the unit. */
export function formatMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}

/** A size with its unit: `512 B`, `1.5 kB`, `12.3 MB`, `4.0 GB`. */
export function formatSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}

/** `1 node`, `2 nodes`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
