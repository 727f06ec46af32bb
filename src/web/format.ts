/** Times and sizes as people read them. */

const units = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60],
  ['s', 1],
] as const

/** Seconds as `2 d 3 h`, `5 min 10 s` or `4.2 s`. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`
  const index = units.findIndex(([, size]) => seconds >= size)
  const [unit, size] = units[index] ?? ['s', 1]
  const [smaller, smallerSize] = units[index + 1] ?? ['s', 1]
  const whole = Math.floor(seconds / size)
  const rest = Math.floor((seconds - whole * size) / smallerSize)
  return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${smaller}`
}

/** How long ago, in one unit. */
export function age(at: string, now: number): string {
  const seconds = Math.max(0, (now - Date.parse(at)) / 1000)
  const [unit, size] = units.find(([, one]) => seconds >= one) ?? ['s', 1]
  return `${Math.floor(seconds / size)} ${unit}`
}

/** A time in UTC, to the second, as logs and consoles have it. */
export function time(at: string): string {
  return `${at.slice(0, 10)} ${at.slice(11, 19)} UTC`
}

/** Bytes with a unit of 1024. */
export function bytes(count: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = count === 0 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10))
  const value = count / 1024 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${names[power]}`
}

/** What a stranger wrote: control and bidirectional characters must not look like something else, nor fill the page. */
export function shown(text: string, most = 200): string {
  const safe = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '�')
  return safe.length > most ? `${safe.slice(0, most)}…` : safe
}

/** `1 node`, `2 nodes`. */
export function count(number: number, what: string): string {
  return `${number.toLocaleString('en')} ${what}${number === 1 ? '' : 's'}`
}
