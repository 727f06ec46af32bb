import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'

/**
 * What may stand in a script. A value that a line cannot carry is refused, never escaped: iPXE has no quoting at all,
 * and expands `${…}` again in what an expansion gave.
 */
export type ScriptLanguage = 'ipxe' | 'shell'

/** What ends a word, starts a comment, joins commands or expands, in each language. */
const unsafe: Readonly<Record<ScriptLanguage, RegExp>> = {
  // iPXE splits at white space, takes #… for a comment and ||, &&, ; for commands where they are words, \ at a line's end.
  ipxe: /[^!-~]|\$\{|\|\||&&|;|\\|["'`]|^#/,
  // Values stand in quoted here-documents and double quotes: no character that means anything to a shell or to YAML there.
  shell: /[^A-Za-z0-9@%_+=:,./[\]-]/,
}

/** Refuses a value that would be more than one harmless word; `name` is for the message, which never has the value. */
export function checkWord(value: string, language: ScriptLanguage, name: string): string {
  const match = unsafe[language].exec(value)
  if (match !== null) {
    throw new PawlError('render-failed', `${name} cannot stand in a script: it holds ${quote(match[0])}`)
  }
  return value
}
