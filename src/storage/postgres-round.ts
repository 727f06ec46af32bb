import { serialize } from 'pg-protocol'

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

/** How the rows of a statement are read. */
type Columns = readonly { readonly name: string; readonly parse: (text: string) => unknown }[]

/** What a connection knows. */
export interface Known {
  /** What is prepared on it, by name. */
  readonly prepared: Map<string, Columns>
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
  /** How the rows of each part are read, as far as it is known. */
  readonly #columns: (Columns | undefined)[] = []
  #at = 0
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
    this.#columns[this.#at] = fields.map(({ name, dataTypeID }) => ({
      name,
      parse: this.#known.parserOf(dataTypeID),
    }))
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    const row: Row = {}
    for (const [at, { name, parse }] of (this.#columns[this.#at] ?? []).entries()) {
      const text = fields[at]
      row[name] = text == null ? null : parse(text)
    }
    this.#rows.push(row)
  }

  /** What was parsed and has run is prepared; of what has failed nobody knows. */
  handleCommandComplete({ text }: { text: string }): void {
    const { name } = this.#parts[this.#at] ?? {}
    if (name !== undefined && this.#parsed.has(name))
      this.#known.prepared.set(name, this.#columns[this.#at] ?? [])
    const [command = '', ...counts] = text.split(' ')
    this.#last = { command, rowCount: Number(counts.at(-1) ?? 0), rows: this.#rows }
    this.#rows = []
    this.#at += 1
  }

  handleError(error: Error): void {
    this.callback(error)
  }

  handleReadyForQuery(): void {
    this.callback(null, this.#last)
  }

  #messages(): Buffer {
    const messages: Buffer[] = []
    for (const { text, values, name = '' } of this.#parts) {
      const columns = this.#known.prepared.get(name) // of one without a name there are none
      this.#columns.push(columns)
      const bind = serialize.bind({ statement: name, values: values.map(textOf) })
      if (columns === undefined && !this.#parsed.has(name)) {
        // It may be there from a run that failed, or from who had the session before: what is not there is closed without a fault.
        if (name !== '') {
          messages.push(serialize.close({ type: 'S', name }))
          this.#parsed.add(name)
        }
        messages.push(serialize.parse({ name, text }))
      }
      messages.push(bind)
      if (columns === undefined) messages.push(serialize.describe({ type: 'P' }))
      messages.push(serialize.execute())
    }
    return Buffer.concat([...messages, serialize.sync()])
  }
}

function textOf(value: unknown): string | null {
  if (typeof value === 'string') return value
  if (value === null || value === undefined) return null
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return `${value}`
  throw new TypeError(`a statement has a value that is no text: ${typeof value}`)
}
