import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import type { RowBatch } from '../storage/import-rows.ts'
import type { Row } from '../storage/snapshot.ts'
import { damaged, kindOf, maxMemberBytes } from './format.ts'
import type { Unpacked } from './unpack.ts'

/** The rows of an unpacked backup, in the order in which they were written. Throws `invalid`. */
export async function* rowsOf(folder: string, { manifest }: Unpacked): AsyncIterable<RowBatch> {
  const counts = new Map<string, number>()
  for (const { name } of manifest.members) {
    if (kindOf(name) !== 'database') continue
    const batch = parse(name, unpacked(name, await readFile(join(folder, name))))
    counts.set(batch.table, (counts.get(batch.table) ?? 0) + batch.rows.length)
    yield batch
  }
  for (const [table, rows] of Object.entries(manifest.rows)) {
    const found = counts.get(table) ?? 0
    if (found !== rows) throw damaged(`it has ${found} rows of table ${table}, and says ${rows}`)
  }
}

/** A small file that unpacks to the end of the memory is refused. */
function unpacked(name: string, bytes: Uint8Array): string {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: maxMemberBytes }).toString('utf8')
  } catch {
    throw damaged(`${name} cannot be unpacked, or is too large`)
  }
}

function parse(name: string, text: string): RowBatch {
  const [first = '', ...lines] = text.split('\n')
  try {
    const { table } = JSON.parse(first) as { table?: unknown }
    const rows = lines.filter((line) => line !== '').map((line) => JSON.parse(line) as unknown)
    if (typeof table === 'string' && rows.every(isRow) && haveSameColumns(rows)) return { table, rows }
  } catch {}
  throw damaged(`${name} does not hold rows`)
}

function isRow(value: unknown): value is Row {
  const isValue = (cell: unknown): boolean => cell === null || ['string', 'number'].includes(typeof cell)
  return typeof value === 'object' && value !== null && Object.values(value).every(isValue)
}

function haveSameColumns(rows: readonly Row[]): boolean {
  const first = Object.keys(rows[0] ?? {}).join()
  return rows.every((row) => Object.keys(row).join() === first)
}
