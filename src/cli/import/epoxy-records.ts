import { PawlError } from '../../errors.ts'
import { isRecord } from './gather.ts'

/** A host record of ePoxy, whatever is in it. */
export type EpoxyHost = Readonly<Record<string, unknown>>

/** A record that was found; undefined where it cannot be read. */
export interface EpoxyRecord {
  /** Which one it is, from 1. */
  readonly number: number
  readonly host: EpoxyHost | undefined
  /** What is wrong with it. */
  readonly fault: string
}

/**
 * The host records of a text: a JSON list, one object, or what `epoxy_admin list` prints ("Listing: NAME", then an object, for
 * each). One that is no JSON object is told, and the others are read. Throws where the text ends within a record, since it is not known what
 * is lost then, and where nothing can be read.
 */
export function epoxyRecords(text: string, file: string): EpoxyRecord[] {
  const values = jsonValues(text, file).flatMap((value) => (Array.isArray(value) ? value : [value]))
  if (values.length === 0) throw new PawlError('invalid', `${file} has no host records`)
  const records = values.map((value, index) => ({
    number: index + 1,
    host: isRecord(value) ? value : undefined,
    fault: value === undefined ? 'it is not JSON' : 'it is no JSON object',
  }))
  const [first] = records
  if (first !== undefined && records.every(({ host }) => host === undefined))
    throw new PawlError('invalid', `${file}: record 1: ${first.fault}`)
  return records
}

/** The JSON values that stand one behind the other; undefined for each that cannot be read. */
function jsonValues(text: string, file: string): unknown[] {
  const found: unknown[] = []
  const whole = text.replace(/^Listing: .*$/gm, '')
  let depth = 0
  let start = -1
  let quoted = false
  for (let at = 0; at < whole.length; at += 1) {
    const c = whole[at]
    if (quoted) {
      if (c === '\\') at += 1
      else if (c === '"') quoted = false
    } else if (c === '"') quoted = true
    else if (c === '{' || c === '[') {
      if (depth === 0) start = at
      depth += 1
    } else if (c === '}' || c === ']') {
      depth -= 1
      if (depth === 0 && start >= 0) found.push(parse(whole.slice(start, at + 1)))
      if (depth < 0) break
    }
  }
  if (depth !== 0 || quoted)
    throw new PawlError('invalid', `${file}: the JSON of record ${found.length + 1} is cut off`)
  return found
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
