import { createWriteStream } from 'node:fs'

/** How much of a console is kept. An image that is tried is not trusted: it may print without end. */
export interface ConsoleLimits {
  /** Text that is kept in memory, its end. */
  readonly textCharacters: number
  /** What is written to the file; behind it nothing is taken any more. */
  readonly fileBytes: number
}

/** A whole boot prints some 100 KiB. */
export const consoleLimits: ConsoleLimits = { textCharacters: 2 ** 20, fileBytes: 64 * 2 ** 20 }

/** The start of a control code at the end of a chunk; what looks like a longer one is none. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const openControlCode = /\u001b(?:\[[0-9;?=]{0,64}[ -/]{0,8}|[()])?$/

/** What a machine prints: kept as text without control codes, and raw in a file. Only what is new is looked at. */
export class SerialConsole {
  readonly #limits: ConsoleLimits
  readonly #file: ReturnType<typeof createWriteStream>
  readonly #decoder = new TextDecoder('latin1')
  #text = ''
  /** The start of a control code whose end has not come. */
  #open = ''
  /** Characters that were printed and are no longer kept. */
  #dropped = 0
  #bytes = 0
  #ended = false
  readonly #waiting = new Set<() => void>()

  constructor(file: string, limits = consoleLimits) {
    this.#limits = limits
    this.#file = createWriteStream(file)
  }

  /** False when there is more than the file may hold: these bytes are not kept. */
  add(bytes: Buffer): boolean {
    this.#bytes += bytes.length
    if (this.#ended || this.#bytes > this.#limits.fileBytes) return false
    this.#file.write(bytes)
    const raw = this.#open + this.#decoder.decode(bytes, { stream: true })
    this.#open = openControlCode.exec(raw)?.[0] ?? ''
    this.#text += stripControlCodes(raw.slice(0, raw.length - this.#open.length))
    // Before the text is cut, so that whoever waits sees all that passes by.
    for (const look of this.#waiting) look()
    this.#cut()
    return true
  }

  end(): void {
    this.#ended = true
    this.#file.end()
    for (const look of this.#waiting) look()
  }

  /** The end of what was printed. */
  text(): string {
    return this.#text
  }

  /** What was printed behind the first `position` characters, as far as it is kept, and where it ends. */
  since(position: number): { readonly text: string; readonly position: number } {
    const text = this.#text.slice(Math.max(0, position - this.#dropped))
    return { text, position: this.#dropped + this.#text.length }
  }

  async waitFor(pattern: RegExp | string, seconds: number, name: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => finish(new Error(`not printed within ${seconds} s`)), seconds * 1000)
      let quiet: NodeJS.Timeout | undefined
      let from = 0
      const finish = (result: string | Error) => {
        clearTimeout(timer)
        clearTimeout(quiet)
        this.#waiting.delete(look)
        if (typeof result === 'string') resolve(result)
        else
          reject(
            new Error(`machine ${name}: ${pattern} ${result.message}; last lines:\n${this.#lastLines()}`),
          )
      }
      const look = () => {
        clearTimeout(quiet)
        const found = this.#find(pattern, from)
        if (found && (found.complete || this.#ended)) finish(found.line)
        // A prompt has no end of line; half a line would be a wrong answer. So: what stays unchanged for a while is whole.
        else if (found) quiet = setTimeout(() => finish(found.line), 500)
        else if (this.#ended) finish(new Error('not printed before the machine ended'))
        else from = this.#dropped + this.#text.lastIndexOf('\n') + 1 // lines that are whole need no second look
      }
      this.#waiting.add(look)
      look()
    })
  }

  #find(pattern: RegExp | string, from: number): { line: string; complete: boolean } | undefined {
    const { text } = this.since(from)
    const at = typeof pattern === 'string' ? text.indexOf(pattern) : text.search(pattern)
    if (at < 0) return undefined
    const end = text.indexOf('\n', at)
    return { line: text.slice(text.lastIndexOf('\n', at) + 1, end < 0 ? undefined : end), complete: end >= 0 }
  }

  /** Twice the limit may be there for a while: a string that is cut at each chunk is copied at each. */
  #cut(): void {
    const { textCharacters } = this.#limits
    if (this.#text.length <= 2 * textCharacters) return
    this.#dropped += this.#text.length - textCharacters
    this.#text = Buffer.from(this.#text.slice(-textCharacters)).toString() // a slice alone keeps all of it
  }

  #lastLines(): string {
    return this.#text.slice(-16_384).trimEnd().split('\n').slice(-15).join('\n')
  }
}

/** Serial output of firmware and boot loaders is full of cursor movement and carriage returns. */
export function stripControlCodes(raw: string): string {
  return (
    raw
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed
      .replace(/\u001b(?:\[[0-9;?=]*[ -/]*[@-~]|[()][A-Z0-9]|[@-Z\\-_])/g, '')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: as above
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '')
  )
}
