import { readFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import {
  type Document,
  isMap,
  isPair,
  LineCounter,
  type Node,
  type ParsedNode,
  parseAllDocuments,
} from 'yaml'
import { PawlError } from '../errors.ts'

/** A YAML document that knows where in its file each value is. */
export interface YamlFile {
  readonly value: unknown
  /** An error that begins with `FILE:LINE:COLUMN` of the value at a path; of the nearest one around it, where it is missing. */
  fault(path: readonly string[], message: string, hint?: string): PawlError
}

const maxBytes = 1024 * 1024

/** Reads the one document of a file, or of stdin for `-`. Throws `invalid` naming line and column, or `not-found`. */
export async function readYaml(file: string, stdin: Readable): Promise<YamlFile> {
  const name = file === '-' ? 'stdin' : file
  const text = file === '-' ? await readAll(stdin, name) : await readText(file)
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false })
  const document = documents[0]
  if (document === undefined || !('contents' in document) || document.contents === null) {
    throw new PawlError('invalid', `${name} is empty`)
  }
  const at = (offset: number, message: string, hint?: string): PawlError => {
    const { line, col } = lines.linePos(offset)
    return new PawlError('invalid', `${name}:${line}:${col}: ${message}`, hint === undefined ? {} : { hint })
  }
  const error = documents.flatMap((one) => one.errors)[0]
  if (error !== undefined) throw at(error.pos[0], error.message)
  const second = documents[1]
  if (second !== undefined) throw at(second.range[0], 'a second document begins here; one is read at a time')
  return {
    value: toValue(document, at),
    fault: (path, message, hint) => at(offsetOf(document.contents, path), message, hint),
  }
}

/** Aliases are followed a limited number of times: a few lines of them can stand for gigabytes. */
function toValue(document: Document, at: (offset: number, message: string) => PawlError): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    throw at(0, error instanceof Error ? error.message : 'it cannot be read')
  }
}

/** Where the key (or the list item) at a path begins. */
function offsetOf(contents: ParsedNode | Node | null, path: readonly string[]): number {
  let offset = startOf(contents)
  let node: unknown = contents
  for (const step of path) {
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

async function readText(file: string): Promise<string> {
  try {
    return decode(await readFile(file), file)
  } catch (error) {
    if (error instanceof PawlError) throw error
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    if (code === 'ENOENT') throw new PawlError('not-found', `there is no ${file}`)
    throw new PawlError('invalid', `${file} cannot be read (${code})`)
  }
}

async function readAll(stdin: Readable, name: string): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stdin) {
    const part = Buffer.from(chunk as Buffer | string)
    bytes += part.length
    if (bytes > maxBytes) break
    chunks.push(part)
  }
  if (bytes > maxBytes) throw tooLarge(name)
  return decode(Buffer.concat(chunks), name)
}

function decode(bytes: Buffer, name: string): string {
  if (bytes.length > maxBytes) throw tooLarge(name)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new PawlError('invalid', `${name} is not UTF-8`)
  }
}

function tooLarge(name: string): PawlError {
  return new PawlError('too-large', `${name} is larger than 1 MiB`)
}
