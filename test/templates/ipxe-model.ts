/**
 * A small model of how iPXE reads a script (its line and command rules, as its own source states them): a script splits into
 * lines, a line into words at white space, words into commands at `||`, `&&` and `;`; a word that begins with `#` ends
 * the line; a trailing backslash joins lines; a first word `:NAME` is a label. Expansion comes last, word by word, again and
 * again, and never splits a word.
 */

/** One command of a script, in its place. */
export interface Command {
  /** The label of its line, on the line's first command. */
  readonly label: string | undefined
  /** What stands between the command before it and this one: `start` of a line, or a separator. */
  readonly after: 'start' | '||' | '&&' | ';'
  readonly words: readonly string[]
}

/** The commands of a script, in order. Empty ones are kept: `… ||` has one, and it succeeds. */
export function readScript(script: string): Command[] {
  return joinLines(script).flatMap(readLine)
}

/** Expands `${…}` in one word, innermost and last first, until there is none. */
export function expand(word: string, settings: Readonly<Record<string, string>>): string {
  let text = word
  for (let rounds = 0; rounds < 1000; rounds += 1) {
    const opening = text.indexOf('${')
    const end = opening < 0 ? -1 : text.indexOf('}', opening)
    if (end < 0) return text
    const start = text.lastIndexOf('${', end)
    text = text.slice(0, start) + (settings[text.slice(start + 2, end)] ?? '') + text.slice(end + 1)
  }
  throw new Error('an expansion that never ends')
}

/** Every `${…}` of a script: what iPXE would put in. */
export function expansions(script: string): string[] {
  return script.match(/\$\{[^}]*\}?/g) ?? []
}

/** Where a `goto` leads nowhere: labels that are used and not defined. `goto ${x}` takes every value that x is set to. */
export function missingLabels(commands: readonly Command[]): string[] {
  const labels = new Set(commands.map((command) => command.label))
  const values = (name: string): string[] =>
    commands.filter(({ words }) => words[0] === 'set' && words[1] === name).map(({ words }) => words[2] ?? '')
  return commands
    .filter(({ words }) => words[0] === 'goto')
    .flatMap(({ words }) => {
      const variable = /^\$\{(.*)\}$/.exec(words[1] ?? '')?.[1]
      return variable === undefined ? [words[1] ?? ''] : values(variable)
    })
    .filter((label) => !labels.has(label))
}

function joinLines(script: string): string[] {
  const lines: string[] = []
  let begun = ''
  for (const line of script.split('\n')) {
    const text = begun + line.replace(/\r$/, '')
    begun = text.endsWith('\\') ? text.slice(0, -1) : ''
    if (!text.endsWith('\\')) lines.push(text)
  }
  return begun === '' ? lines : [...lines, begun]
}

function readLine(line: string): Command[] {
  const text = line.replace(/^[ \t\v\f\r]+/, '')
  const label = text.startsWith(':') ? (/^:([^ \t\v\f\r]*)/.exec(text)?.[1] ?? '') : undefined
  const words = (label === undefined ? text : text.slice(label.length + 1))
    .split(/[ \t\v\f\r]+/)
    .filter((word) => word !== '')
  const comment = words.findIndex((word) => word.startsWith('#'))
  const read = comment < 0 ? words : words.slice(0, comment)
  if (read.length === 0 && label === undefined) return []
  const commands: { label: string | undefined; after: Command['after']; words: string[] }[] = [
    { label, after: 'start', words: [] },
  ]
  for (const word of read) {
    if (word === '||' || word === '&&' || word === ';') {
      commands.push({ label: undefined, after: word, words: [] })
    } else {
      commands[commands.length - 1]?.words.push(word)
    }
  }
  return commands
}
