/**
 * What machines say of themselves goes to a collector, to its database and to people's browsers: text of theirs is one line
 * of printable characters, and short. Nobody downstream must be trusted to escape it.
 */

/** The longest text of an attribute, in characters. */
export const maxTextLength = 256
const maxListLength = 16

/** One value of an attribute. */
export type AttributeValue = string | number | boolean | string[]
export type Attributes = Readonly<Record<string, AttributeValue>>

/** Text without controls, invisible characters, directions of writing and halves of characters; cut where it is long. */
export function cleanText(text: string): string {
  const shown = text
    .slice(0, maxTextLength * 4)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, '\uFFFD')
  const characters = [...shown]
  return characters.length <= maxTextLength ? shown : `${characters.slice(0, maxTextLength - 1).join('')}…`
}

/** The attributes that have a value, cleaned. */
export function attributesOf(values: Readonly<Record<string, unknown>>): Attributes {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => {
      const cleaned = cleanValue(value)
      return cleaned === undefined ? [] : [[name, cleaned]]
    }),
  )
}

function cleanValue(value: unknown): AttributeValue | undefined {
  if (typeof value === 'string') return value === '' ? undefined : cleanText(value)
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined
  if (typeof value === 'boolean') return value
  if (!Array.isArray(value) || value.length === 0) return undefined
  if (!value.every((one) => typeof one === 'string')) return undefined
  return value.slice(0, maxListLength).map(cleanText)
}
