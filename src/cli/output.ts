import type { Writable } from 'node:stream'
import type { PawlError } from '../errors.ts'
import type { Io } from './io.ts'
import { type Column, type Field, formatFields, formatTable } from './table.ts'
import { asciiJson, type Piece, render, toned } from './text.ts'

/** What a command says. Answers go to stdout, everything about them to stderr. */
export interface Output {
  /** One line of the answer. */
  line(...pieces: readonly Piece[]): void
  table(columns: readonly Column[], rows: readonly (readonly Piece[])[]): void
  fields(fields: readonly Field[]): void
  /** The answer as one document, for `--json`. */
  json(value: unknown): void
  /** One document on one line, where `--json` gives many. */
  jsonLine(value: unknown): void
  /** A remark beside the answer. */
  note(text: string): void
  warning(text: string): void
  /** `error: …`, then `hint: …` where there is one. */
  failure(error: Pick<PawlError, 'message' | 'hint'>): void
}

/** Says things on the streams that were handed in. A reader that goes away (`| head`) ends the output, not the command. */
export function openOutput(io: Io): Output {
  const stdout = writer(io.stdout)
  const stderr = writer(io.stderr)
  const colour = { stdout: hasColour(io, io.isTTY.stdout), stderr: hasColour(io, io.isTTY.stderr) }
  const width = io.isTTY.stdout ? (io.columns ?? 80) : undefined
  const aside = (label: Piece, text: string): void =>
    stderr(`${render(label, { colour: colour.stderr })} ${render(text, { colour: false })}`)
  return {
    line: (...pieces) => stdout(pieces.map((piece) => render(piece, { colour: colour.stdout })).join('')),
    table: (columns, rows) => formatTable(columns, rows, { width, colour: colour.stdout }).forEach(stdout),
    fields: (fields) => formatFields(fields, { width, colour: colour.stdout }).forEach(stdout),
    json: (value) => stdout(asciiJson(value)),
    jsonLine: (value) => stdout(asciiJson(value, 0)),
    note: (text) => stderr(render(toned('dim', text), { colour: colour.stderr })),
    warning: (text) => aside(toned('warn', 'warning:'), text),
    failure: ({ message, hint }) => {
      aside(toned('bad', 'error:'), message)
      if (hint !== undefined) aside(toned('strong', 'hint:'), hint)
    },
  }
}

/** https://no-color.org: any value that is not empty turns colours off. */
export function hasColour(io: Io, isTTY: boolean): boolean {
  return isTTY && (io.env.NO_COLOR ?? '') === '' && io.env.TERM !== 'dumb'
}

function writer(stream: Writable): (line: string) => void {
  let gone = false
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    gone = true
  })
  return (line) => {
    if (!gone) stream.write(`${line}\n`)
  }
}
