/**
 * Statements that are sent in one write and answered together, as pg takes a query of somebody else's. What is ours: statements
 * that PostgreSQL keeps prepared are described once for each connection and not at every run, since pg reads the names of fifty columns
 * for longer than their values; and all of a round is before one Sync. Behind one that fails PostgreSQL skips the others up
 * to there: nothing that follows a BEGIN runs where that was refused.
 */

/** A statement of a round. */
export interface Part {
  readonly text: string
  readonly values: readonly unknown[]
  /** It is kept prepared under it; one without is parsed each time. */
  readonly name?: string
}

/** What the last statement of a round gave. */
export interface Answered {
  readonly command: string
  readonly rowCount: number
  readonly rows: Row[]
}

type Row = Record<string, unknown>

/** How the rows of a statement are read; `unsure` where it may be prepared or not. */
type Columns = readonly { readonly name: string; readonly parse: (text: string) => unknown }[]

/** What a connection knows. */
export interface Known {
  /** What is prepared on it, by name. */
  readonly prepared: Map<string, Columns | 'unsure'>
  /** How a type of PostgreSQL is read, by its number. */
  readonly parserOf: (type: number) => (text: string) => unknown
}

/** What is used of pg's connection. */
export interface Wire {
  readonly stream: { readonly writable: boolean; write(bytes: Buffer): unknown }
}

/** One round, for `client.query`: pg calls what is here by name, and puts a callback of its own around ours. */
export class Round {
  callback: (error: Error | null, answered?: Answered) => void
  readonly #parts: readonly Part[]
  readonly #known: Known
  /** Those that are parsed in this round. */
  readonly #parsed = new Set<string>()
  #at = 0
  #columns: Columns | undefined
  #rows: Row[] = []
  #last: Answered = { command: '', rowCount: 0, rows: [] }

  constructor(parts: readonly Part[], known: Known, callback: Round['callback']) {
    this.#parts = parts
    this.#known = known
    this.callback = callback
  }

  submit({ stream }: Wire): Error | null {
    try {
      // Of one that is closed its own end tells.
      if (stream.writable) stream.write(this.#messages())
      return null
    } catch (error) {
      return error as Error // of a value that is none
    }
  }

  handleRowDescription({ fields }: { fields: readonly { name: string; dataTypeID: number }[] }): void {
    this.#columns = fields.map(({ name, dataTypeID }) => ({
      name,
      parse: this.#known.parserOf(dataTypeID),
    }))
    this.#keep(this.#columns)
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    this.#columns ??= this.#described() ?? []
    const row: Row = {}
    for (const [at, { name, parse }] of this.#columns.entries()) {
      const text = fields[at]
      row[name] = text == null ? null : parse(text)
    }
    this.#rows.push(row)
  }

  handleCommandComplete({ text }: { text: string }): void {
    if (this.#described() === undefined) this.#keep([])
    const [command = '', ...counts] = text.split(' ')
    this.#last = { command, rowCount: Number(counts.at(-1) ?? 0), rows: this.#rows }
    this.#rows = []
    this.#columns = undefined
    this.#at += 1
  }

  /** What was to be parsed and has not been run may be prepared or not. */
  handleError(error: Error): void {
    for (const { name } of this.#parts.slice(this.#at))
      if (name !== undefined && this.#parsed.has(name)) this.#known.prepared.set(name, 'unsure')
    this.callback(error)
  }

  handleReadyForQuery(): void {
    this.callback(null, this.#last)
  }

  #described(): Columns | undefined {
    const { name } = this.#parts[this.#at] ?? {}
    const known = name === undefined ? undefined : this.#known.prepared.get(name)
    return known === 'unsure' ? undefined : known
  }

  #keep(columns: Columns): void {
    const { name } = this.#parts[this.#at] ?? {}
    if (name !== undefined) this.#known.prepared.set(name, columns)
  }

  #messages(): Buffer {
    writer.begin()
    for (const { text, values, name = '' } of this.#parts) {
      const known = this.#known.prepared.get(name)
      const described = known !== undefined && known !== 'unsure'
      if (!described && !this.#parsed.has(name)) {
        if (known === 'unsure') writer.message('C').byte('S').cstring(name).end()
        writer.message('P').cstring(name).cstring(text).int16(0).end()
        if (name !== '') this.#parsed.add(name)
      }
      // No formats: all values are texts, and all columns.
      writer.message('B').cstring('').cstring(name).int16(0).int16(values.length)
      for (const value of values) writer.value(textOf(value))
      writer.int16(0).end()
      if (!described) writer.message('D').byte('P').cstring('').end()
      writer.message('E').cstring('').int32(0).end()
    }
    return writer.message('S').end().bytes()
  }
}

function textOf(value: unknown): string | null {
  if (typeof value === 'string') return value
  if (value === null || value === undefined) return null
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return `${value}`
  throw new TypeError(`a statement has a value that is no text: ${typeof value}`)
}

/** Messages of PostgreSQL's protocol 3, one behind the other (PostgreSQL manual, 55.7), in a buffer that is used again. */
class MessageWriter {
  #buffer = Buffer.allocUnsafe(16_384)
  #at = 0
  #length = 0

  begin(): void {
    this.#at = 0
  }

  message(kind: string): this {
    this.byte(kind)
    this.#length = this.#at
    return this.int32(0)
  }

  /** Its length counts itself, and not its kind. */
  end(): this {
    this.#buffer.writeInt32BE(this.#at - this.#length, this.#length)
    return this
  }

  byte(character: string): this {
    this.#room(1)
    this.#buffer[this.#at++] = character.charCodeAt(0)
    return this
  }

  int16(value: number): this {
    this.#room(2)
    this.#at = this.#buffer.writeInt16BE(value, this.#at)
    return this
  }

  int32(value: number): this {
    this.#room(4)
    this.#at = this.#buffer.writeInt32BE(value, this.#at)
    return this
  }

  cstring(text: string): this {
    this.#text(text)
    return this.byte('\0')
  }

  value(text: string | null): this {
    const length = this.#at
    this.int32(-1)
    if (text === null) return this
    const written = this.#text(text) // the buffer may be another one behind it
    this.#buffer.writeInt32BE(written, length)
    return this
  }

  /** A copy: the socket may keep it for a while. */
  bytes(): Buffer {
    return Buffer.from(this.#buffer.subarray(0, this.#at))
  }

  #text(text: string): number {
    this.#room(text.length * 3)
    const written = this.#buffer.write(text, this.#at)
    this.#at += written
    return written
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(2 * (this.#at + bytes))
    this.#buffer.copy(larger, 0, 0, this.#at)
    this.#buffer = larger
  }
}

const writer = new MessageWriter()
