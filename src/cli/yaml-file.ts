import { readFile, stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  type ParsedNode,
  parseAllDocuments,
  type Scalar,
} from 'yaml'
import { quote } from '../domain/node.ts'
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
  const wrong = parsed.flatMap((one) => [...one.errors, ...one.warnings])
  // The parser takes the end of its stack for a fault at each level, and goes on.
  const deep = wrong.find(({ message }) => message.startsWith('Maximum call stack'))
  if (deep !== undefined) return { documents: [], faults: [at(deep.pos[0], 'it is nested too deeply')] }
  const faults = wrong.map((e) => at(e.pos[0], e.message))
  if (faults.length > 0) return { documents: [], faults }
  const second = howMany === 'one' ? parsed[1] : undefined
  const documents: YamlFile[] = []
  for (const document of parsed) {
    if (isEmpty(document.contents)) continue
    const anchors: Anchors = new Map()
    const value = toValue(document, anchors, at)
    if (value instanceof PawlError) return { documents: [], faults: [value] }
    const offset = (path: readonly string[]): number => offsetOf(document, anchors, path)
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

/** Nothing at all between two `---`; a `null` that is written is a value. */
function isEmpty(contents: unknown): boolean {
  return contents === null || (isScalar(contents) && contents.value === null && contents.source === '')
}

/** How many values a document may come to when its aliases are followed: a few lines of them can stand for gigabytes. */
const maxValues = 1_000_000
const maxDepth = 100

/** The nodes that have anchors, by name. */
type Anchors = Map<string, { node: unknown; value: unknown; size: number }>

/**
 * A document's value. yaml's own way of it looks for each alias through the whole document, so that ten thousand uses of
 * one anchor take minutes; here each anchor is read once, and what refers to it is the same value.
 */
function toValue(document: Document.Parsed, anchors: Anchors, at: At): { value: unknown } | PawlError {
  try {
    return { value: build(document.contents, anchors, 0).value }
  } catch (error) {
    return at(0, error instanceof Error ? error.message : 'it cannot be read')
  }
}

function build(node: unknown, anchors: Anchors, depth: number): { value: unknown; size: number } {
  if (depth > maxDepth) throw new Error(`it is nested more than ${maxDepth} deep`)
  if (isAlias(node)) {
    const known = anchors.get(node.source)
    // It is known when it is whole: one that stands in itself is not.
    if (known === undefined) throw new Error(`alias ${quote(node.source)} refers to nothing before it`)
    return known
  }
  const built = isMap(node)
    ? buildMap(node.items, anchors, depth)
    : isSeq(node)
      ? buildList(node.items, anchors, depth)
      : { value: (node as Scalar | null)?.value ?? null, size: 1 }
  if (built.size > maxValues) throw new Error('its aliases stand for more than a million values')
  const { anchor } = (node ?? {}) as { anchor?: string }
  if (anchor !== undefined) anchors.set(anchor, { node, ...built })
  return built
}

function buildList(
  items: readonly unknown[],
  anchors: Anchors,
  depth: number,
): { value: unknown; size: number } {
  const built = items.map((item) => build(item, anchors, depth + 1))
  return { value: built.map(({ value }) => value), size: built.reduce((sum, { size }) => sum + size, 1) }
}

function buildMap(items: readonly Pair[], anchors: Anchors, depth: number): { value: unknown; size: number } {
  let total = 1
  const entries = items.map(({ key, value }) => {
    if (!isScalar(key)) throw new Error('a key of a map must be text')
    const built = build(value, anchors, depth + 1)
    total += built.size
    return [String(key.value), built.value] as const
  })
  // fromEntries defines members: "__proto__" is a key like another.
  return { value: Object.fromEntries(entries), size: total }
}

/** Where the key (or the list item) at a path begins. */
function offsetOf(document: Document.Parsed, anchors: Anchors, path: readonly string[]): number {
  const contents: ParsedNode | Node | null = document.contents
  let offset = startOf(contents)
  let node: unknown = contents
  for (const step of path) {
    if (isAlias(node)) node = anchors.get(node.source)?.node
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
