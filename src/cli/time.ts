import { PawlError } from '../errors.ts'

const ages = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/** Reads a date, a time (UTC where it names no zone) or an age; returns ISO 8601. `flag` is named where it is neither. */
export function parseTime(flag: string, text: string, now: Date): string {
  const [, number, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (number !== undefined && unit !== undefined) {
    const seconds = Number(number) * ages[unit as keyof typeof ages] // the expression allows no other
    const time = new Date(now.getTime() - seconds * 1000)
    if (!Number.isNaN(time.getTime())) return time.toISOString()
  }
  const [, date, clock, zone] =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(Z|[+-]\d\d:\d\d)?)?$/.exec(text) ?? []
  const time = new Date(`${date}T${clock ?? '00:00'}${zone ?? 'Z'}`)
  if (!Number.isNaN(time.getTime())) return time.toISOString()
  throw new PawlError('usage', `${flag} "${text}" is not a time`, {
    hint: 'write 2026-11-21, 2026-11-21T06:00Z, or an age: 30m, 2h, 7d',
  })
}
