import { CsvError, parse } from 'csv-parse/sync'
import { quote } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import { type Candidate, Gathering, type Imported } from './gather.ts'

/** Which column is which field; what is not named here is found by its usual names. */
export type ColumnMap = Readonly<Record<string, string>>

const fields = ['name', 'addresses', 'macs', 'uuid', 'serial', 'profile'] as const
type Field = (typeof fields)[number]

/** What inventories call these columns, without case, spaces and punctuation. */
const usualNames: Readonly<Record<Field, readonly string[]>> = {
  name: ['name', 'hostname', 'host', 'fqdn', 'node'],
  addresses: ['address', 'addresses', 'ip', 'ips', 'ipaddress', 'ipaddresses', 'ipv4', 'ipv6', 'primaryip'],
  macs: ['mac', 'macs', 'macaddress', 'macaddresses', 'ethernet'],
  uuid: ['uuid', 'systemuuid', 'smbiosuuid'],
  serial: ['serial', 'serialnumber', 'sn', 'servicetag'],
  profile: ['profile'],
}

/**
 * Reads an inventory: the first line names the columns. A cell of several values separates them by spaces, `;` or `|`.
 * Cells that begin like a spreadsheet's formula are not values, and left out.
 */
export function importCsv(text: string, file: string, map: ColumnMap): Imported {
  const rows = rowsOf(text, file)
  const [head, ...body] = rows
  if (head === undefined) throw new PawlError('invalid', `${file} is empty`)
  const gathering = new Gathering()
  const columns = columnsOf(head.record, file, map, gathering)
  for (const { record, line } of body) {
    const where = `${file}:${line}`
    if (record.length !== head.record.length) {
      gathering.warn(where, `it has ${record.length} cells, and the head has ${head.record.length}: left out`)
      continue
    }
    const candidate = candidateOf(record, columns, where, gathering)
    if (candidate.name === '') gathering.warn(where, 'it has no name: left out')
    else gathering.add(candidate)
  }
  return gathering.imported([])
}

interface Row {
  readonly record: readonly string[]
  readonly line: number
}

function rowsOf(text: string, file: string): Row[] {
  const head = text.slice(0, text.indexOf('\n') + 1 || undefined)
  const delimiter = [',', ';', '\t'].toSorted((a, b) => head.split(b).length - head.split(a).length)[0] ?? ','
  try {
    // csv-parse counts CRLF in quotes as two lines.
    const rows = parse(text.replace(/\r\n?/g, '\n'), {
      bom: true,
      delimiter,
      info: true,
      trim: true,
      skip_empty_lines: true,
      relax_column_count: true,
      relax_quotes: true, // an unquoted formula has quotes in it
      record_delimiter: '\n',
      max_record_size: 64 * 1024,
    }) as unknown as { record: string[]; info: { lines: number } }[]
    return rows.map(({ record, info }) => ({ record, line: info.lines }))
  } catch (error) {
    if (!(error instanceof CsvError)) throw error
    const { lines } = error as unknown as { lines?: number }
    throw new PawlError(
      'invalid',
      `${file}${lines === undefined ? '' : `:${lines}`}: ${error.message.slice(0, 200)}`,
    )
  }
}

/** The field of each column: `name`, `labels.KEY`, or undefined for one that has no place. */
function columnsOf(
  head: readonly string[],
  file: string,
  map: ColumnMap,
  gathering: Gathering,
): (string | undefined)[] {
  const unknown = Object.keys(map).find((column) => !head.includes(column))
  if (unknown !== undefined)
    throw new PawlError('usage', `${file} has no column ${quote(unknown)}`, {
      hint: `it has ${head.map(quote).join(', ')}`,
    })
  const columns = head.map((column) => {
    const given = map[column]
    if (given !== undefined) return given === '-' ? undefined : fieldOf(given)
    const plain = column.toLowerCase().replace(/[^a-z0-9]/g, '')
    const label = /^labels?\.(.+)$/.exec(column.toLowerCase())?.[1]
    const field =
      label === undefined ? fields.find((one) => usualNames[one].includes(plain)) : `labels.${label}`
    if (field === undefined)
      gathering.warnOf(
        file,
        `column ${quote(column)} is left out; --map ${JSON.stringify(`${column}=labels.${plain || 'KEY'}`)} makes it a label`,
      )
    return field
  })
  if (!columns.includes('name'))
    throw new PawlError('invalid', `${file} has no column for the name`, {
      hint: `say which: --map COLUMN=name; it has ${head.map(quote).join(', ')}`,
    })
  return columns
}

function fieldOf(text: string): string {
  if ((fields as readonly string[]).includes(text) || /^labels\..+$/.test(text)) return text
  throw new PawlError('usage', `${quote(text)} is no field of a node`, {
    hint: `there are ${fields.join(', ')}, labels.KEY, and "-" for none`,
  })
}

function candidateOf(
  record: readonly string[],
  columns: readonly (string | undefined)[],
  where: string,
  gathering: Gathering,
): Candidate {
  const values = new Map<string, string[]>()
  for (const [index, field] of columns.entries()) {
    const cell = record[index] ?? ''
    if (field === undefined || cell === '') continue
    if (/^[=+@-]/.test(cell)) gathering.warn(where, `${field} ${quote(cell)} looks like a formula: left out`)
    else values.set(field, [...(values.get(field) ?? []), cell])
  }
  const list = (field: Field): string[] =>
    (values.get(field) ?? []).flatMap((cell) => cell.split(/[\s;|]+/)).filter(Boolean)
  const one = (field: Field): string | undefined => values.get(field)?.[0]
  const labels = [...values].filter(([field]) => field.startsWith('labels.'))
  return {
    ...{ where, name: one('name') ?? '', addresses: list('addresses'), macs: list('macs') },
    ...{ uuid: one('uuid'), serial: one('serial'), profile: one('profile') },
    labels: Object.fromEntries(
      labels.map(([field, cells]) => [field.slice('labels.'.length), cells[0] ?? '']),
    ),
  }
}
