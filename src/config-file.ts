import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { type Setting, settings } from './config-table.ts'
import { PawlError } from './errors.ts'

/** What a settings file gives: by setting, the texts and where they stand. */
export type FileSettings = ReadonlyMap<string, { readonly texts: readonly string[]; readonly from: string }>

/** A file is written by hand: this is far more than every setting takes. */
const maxCharacters = 64 * 1024

/** Reads a settings file; throws `usage` with file and line for what is not YAML and for settings that do not exist. */
export function readSettingsFile(text: string | undefined, fileName: string): FileSettings {
  if (text === undefined) return new Map()
  if (text.length > maxCharacters) throw fault(fileName, `is over ${maxCharacters} characters`)
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, schema: 'core' })
  const at = (offset: number | undefined) => `${fileName}:${lines.linePos(offset ?? 0).line}`
  const [wrong] = [...document.errors, ...document.warnings]
  if (wrong !== undefined) {
    throw fault(
      at(wrong.pos[0]),
      `is not valid YAML (${wrong.code})`,
      'put values with [ ] { } or # in quotes: "[::]:8443"',
    )
  }
  if (document.contents === null) return new Map()
  if (!isMap(document.contents)) throw fault(fileName, 'must hold lines of the form NAME: VALUE')
  const found = new Map<string, { texts: string[]; from: string }>()
  for (const { key, value } of document.contents.items) {
    const place = at((key as Node).range?.[0])
    const name = isScalar(key) ? String(key.value) : ''
    const setting = settingOf(name, place)
    found.set(name, { texts: textsOf(value as Node | null, name, setting, place), from: place })
  }
  return found
}

function settingOf(name: string, place: string): Setting<unknown> {
  const setting = Object.hasOwn(settings, name) ? settings[name as keyof typeof settings] : undefined // an own key
  if (setting === undefined) {
    const near = nearest(name, Object.keys(settings))
    throw fault(
      place,
      `has no setting named ${JSON.stringify(name.slice(0, 100))}`,
      near === undefined ? 'docs/configuration.md lists the settings' : `did you mean ${near}?`,
    )
  }
  if ('notInFile' in setting) {
    throw fault(
      place,
      `cannot set ${name}: it says where this file is`,
      `use ${setting.flag} or ${setting.env}`,
    )
  }
  return setting
}

/** The text as it stands in the file, so that 0x10 or 1e3 is not taken for a number that nobody wrote. */
function textsOf(value: Node | null, name: string, setting: Setting<unknown>, place: string): string[] {
  if (isSeq(value)) {
    if (setting.many) return value.items.map((item) => textOf(item as Node | null, name, place))
    throw fault(
      place,
      `gives ${name} a list; it takes one value`,
      'put values with [ ] in quotes: "[::]:8443"',
    )
  }
  return [textOf(value, name, place)]
}

function textOf(value: Node | null, name: string, place: string): string {
  if (isAlias(value)) throw fault(place, `refers to another place for ${name}`, 'write the value itself')
  if (!isScalar(value)) throw fault(place, `gives ${name} something else than a value`)
  if (value.value === null)
    throw fault(place, `gives ${name} no value`, 'remove the line to take the default')
  return value.source ?? String(value.value)
}

/** The known name that is fewest edits away, if that is near enough to be a slip of the hand. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const limit = Math.max(2, Math.floor(name.length / 4))
  const ranked = known
    .map((candidate) => ({
      candidate,
      edits: edits(name.toLowerCase().replace(/[-_]/g, ''), candidate.toLowerCase()),
    }))
    .sort((a, b) => a.edits - b.edits)
  return ranked[0] !== undefined && ranked[0].edits <= limit ? ranked[0].candidate : undefined
}

/** Levenshtein's distance, one row at a time. */
function edits(a: string, b: string): number {
  if (a.length > 64) return a.length
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}

function fault(place: string, what: string, hint?: string): PawlError {
  return new PawlError('usage', `${place} ${what}`, hint === undefined ? {} : { hint })
}
