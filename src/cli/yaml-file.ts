import { readFile, stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseAllDocuments,
} from 'yaml'
import { PawlError } from '../errors.ts'

/** A YAML document that knows where in its file each value is. */
export interface YamlFile {
  readonly value: unknown
  /** `FILE:LINE:COLUMN` of the value at a path; of the nearest one around it, where it is missing. */
  place(path: readonly string[]): string
  /** An error that begins with the place of the value at a path. */
  fault(path: readonly string[], message: string, hint?: string): PawlError
}

/** The documents of a file, and what is wrong with it as YAML. */
export interface YamlFiles {
  readonly documents: readonly YamlFile[]
  readonly faults: readonly PawlError[]
}

const mebibyte = 1024 * 1024

/** Reads the one document of a file, or of stdin for `-`. Throws `invalid` naming line and column, or `not-found`. */
export async function readYaml(file: string, stdin: Readable): Promise<YamlFile> {
  const name = nameOf(file)
  const { documents, faults, second } = parseYaml(name, await readBytes(file, stdin, mebibyte), 'one')
  const [fault] = faults
  if (fault !== undefined) throw fault
  if (second !== undefined) throw second
  const [document] = documents
  if (document === undefined) throw new PawlError('invalid', `${name} is empty`)
  return document
}

/** Reads the documents of a file's bytes; those that are empty are left out. Throws `invalid` for what is not UTF-8. */
export function parseYaml(
  name: string,
  bytes: Buffer,
  howMany: 'one' | 'all' = 'all',
): YamlFiles & { second?: PawlError } {
  const text = decode(bytes, name)
  const lines = new LineCounter()
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `${name}:${line}:${col}`
  }
  const at = (offset: number, message: string, hint?: string): PawlError =>
    new PawlError('invalid', `${place(offset)}: ${message}`, hint === undefined ? {} : { hint })
  const parsed = parse(text, lines, at)
  if (parsed instanceof PawlError) return { documents: [], faults: [parsed] }
  const faults = parsed.flatMap((one) => [...one.errors, ...one.warnings].map((e) => at(e.pos[0], e.message)))
  if (faults.length > 0) return { documents: [], faults }
  const second = howMany === 'one' ? parsed[1] : undefined
  const documents: YamlFile[] = []
  for (const document of parsed) {
    if (document.contents === null) continue
    const value = toValue(document, at)
    if (value instanceof PawlError) return { documents: [], faults: [value] }
    const offset = (path: readonly string[]): number => offsetOf(document, path)
    documents.push({
      value: value.value,
      place: (path) => place(offset(path)),
      fault: (path, message, hint) => at(offset(path), message, hint),
    })
  }
  return second === undefined
    ? { documents, faults }
    : {
        documents,
        faults,
        second: at(second.range[0], 'a second document begins here; one is read at a time'),
      }
}

type At = (offset: number, message: string, hint?: string) => PawlError

function parse(text: string, lines: LineCounter, at: At): readonly Document.Parsed[] | PawlError {
  try {
    const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false })
    return 'empty' in documents ? [] : documents
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return at(0, 'it is nested too deeply')
  }
}

/** How many values a document may come to when its aliases are followed: a few lines of them can stand for gigabytes. */
const maxValues = 1_000_000
const maxDepth = 100

function toValue(document: Document.Parsed, at: At): { value: unknown } | PawlError {
  try {
    measure(document.contents, document, new Map(), 0)
    return { value: document.toJS({ maxAliasCount: -1 }) }
  } catch (error) {
    return at(0, error instanceof Error ? error.message : 'it cannot be read')
  }
}

/** How many values a node comes to; each is measured once, however often it is referred to. Throws where it is too many. */
function measure(node: unknown, document: Document, known: Map<unknown, number>, depth: number): number {
  if (depth > maxDepth) throw new Error(`it is nested more than ${maxDepth} deep`)
  const before = known.get(node)
  if (before !== undefined) return before
  known.set(node, Number.POSITIVE_INFINITY) // an alias to what it stands in never ends
  const inner = isAlias(node)
    ? [node.resolve(document)]
    : isMap(node)
      ? node.items.flatMap(({ key, value }) => [key, value])
      : isSeq(node)
        ? node.items
        : []
  const values = inner.reduce<number>((sum, one) => sum + measure(one, document, known, depth + 1), 1)
  if (values > maxValues) throw new Error('its aliases stand for more than a million values')
  known.set(node, values)
  return values
}

/** Where the key (or the list item) at a path begins. */
function offsetOf(document: Document.Parsed, path: readonly string[]): number {
  const contents: ParsedNode | Node | null = document.contents
  let offset = startOf(contents)
  let node: unknown = contents
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document)
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && String(item.key) === step)
      if (pair === undefined) return offset
      offset = startOf(pair.key)
      node = pair.value
    } else {
      const items = (node as { items?: readonly unknown[] } | null)?.items
      const item = items?.[Number(step)]
      if (item === undefined) return offset
      offset = startOf(item)
      node = item
    }
  }
  return offset
}

function startOf(node: unknown): number {
  return (node as { range?: readonly number[] | null } | null)?.range?.[0] ?? 0
}

/** What a file is called in messages. */
export function nameOf(file: string): string {
  return file === '-' ? 'stdin' : file
}

/** A file's bytes, or stdin's for `-`; throws `too-large` past `maxBytes`, `not-found`, or `invalid` naming the cause. */
export async function readBytes(file: string, stdin: Readable, maxBytes: number): Promise<Buffer> {
  const bytes = file === '-' ? await readAll(stdin, maxBytes) : await readWhole(file, maxBytes)
  if (bytes !== undefined && bytes.length <= maxBytes) return bytes
  throw new PawlError('too-large', `${nameOf(file)} is larger than ${Math.floor(maxBytes / mebibyte)} MiB`)
}

/** Undefined for what is too large to be looked at. */
async function readWhole(file: string, maxBytes: number): Promise<Buffer | undefined> {
  try {
    return (await stat(file)).size > maxBytes ? undefined : await readFile(file)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    if (code === 'ENOENT') throw new PawlError('not-found', `there is no ${file}`)
    throw new PawlError('invalid', `${file} cannot be read (${code})`)
  }
}

async function readAll(stdin: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stdin) {
    const part = Buffer.from(chunk as Buffer | string)
    bytes += part.length
    chunks.push(part)
    if (bytes > maxBytes) break
  }
  return Buffer.concat(chunks)
}

/** Text of bytes; throws `invalid` where they are not UTF-8. A byte order mark is left out. */
export function decode(bytes: Buffer, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new PawlError('invalid', `${name} is not UTF-8`)
  }
}
