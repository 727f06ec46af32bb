/** Lists of things with a few fields each, as templates are given them: peers of a tunnel, fields of a configuration file. */
import { PawlError } from '../errors.ts'
import { shellWord } from './ipxe-value.ts'

/** What a field of an entry holds: one word, a word or nothing, or words. */
type FieldKind = 'word' | 'wordOrNone' | 'words'

/** One entry. */
export type Entry = Readonly<Record<string, string | readonly string[]>>

const maxEntries = 256

/** The check of a list whose entries have exactly these fields; throws `render-failed` naming the field. */
export function entriesOf(
  fields: Readonly<Record<string, FieldKind>>,
): (value: readonly Entry[], where: string) => Entry[] {
  return (value, where) => listOf(value, where).map((entry) => checkEntry(fields, entry, where))
}

/** Words of a shell, each checked. */
export function shellWords(value: readonly string[], where: string): string[] {
  return listOf(value, where).map((word) => wordOf(word, where))
}

function checkEntry(fields: Readonly<Record<string, FieldKind>>, entry: unknown, where: string): Entry {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    throw notA(`${where}: entry`, 'a record')
  const given = entry as Record<string, unknown>
  const stray = Object.keys(given).find((name) => !Object.hasOwn(fields, name))
  if (stray !== undefined) throw new PawlError('render-failed', `${where}: takes no "${stray}"`)
  return Object.fromEntries(
    Object.entries(fields).map(([name, kind]) => {
      const at = `${where}: ${name}`
      if (kind === 'words') return [name, shellWords(given[name] as readonly string[], at)]
      return [name, kind === 'wordOrNone' && given[name] === '' ? '' : wordOf(given[name], at)]
    }),
  )
}

function listOf<T>(value: readonly T[], where: string): readonly T[] {
  if (!Array.isArray(value)) throw notA(where, 'a list')
  if (value.length > maxEntries)
    throw new PawlError('render-failed', `${where} has ${value.length} entries, more than ${maxEntries}`)
  return value
}

function wordOf(value: unknown, where: string): string {
  if (typeof value !== 'string') throw notA(where, 'text')
  return shellWord(value, where)
}

function notA(name: string, what: string): PawlError {
  return new PawlError('render-failed', `${name} is not ${what}`)
}
