/**
 * What an iPXE line, a kernel command line, a URL or a shell word can carry. iPXE splits a line at white space, knows no
 * quoting, and expands `${…}` again and again, so nothing can be escaped: what does not fit is refused, with the field and
 * the character named. Values are never shown in the message: they may be secrets.
 */
import { checkCommandLine, ipxeCommandLineStart, parseKernelArguments } from '../domain/kernel-args.ts'
import { isPawlError, PawlError } from '../errors.ts'

type Rule = readonly [pattern: RegExp, why: string]

const notPrintable: Rule = [/[^ -~]/, 'which is not printable ASCII']
const space: Rule = [/ /, 'which ends a word']
const expansion: Rule = [/\$\{/, 'which iPXE expands']
const separator: Rule = [/\|\||&&|;/, 'which separates commands']
const backslash: Rule = [/\\/, 'which joins lines']
const quotes: Rule = [/["'`]/, 'and iPXE has no quoting']
const comment: Rule = [/^#/, 'which begins a comment']
const option: Rule = [/^-/, 'which begins an option']

const word = [notPrintable, space, expansion, separator, backslash, quotes, comment, option]

/** Checks one word of an iPXE line; throws `render-failed` naming the field and the character. */
export function ipxeWord(value: string, name: string): string {
  checkNotEmpty(value, name)
  return check(value, name, word)
}

/** What is left of RFC 3986 when nothing in it may mean more than a URL to iPXE: no `$ ; ' #`, and so no fragment. */
const notInUrl: Rule = [/[^A-Za-z0-9._~:/?@!&=+,*%()[\]-]/, 'which a URL in a script cannot carry']

/** Checks an `http` or `https` URL that may have a query. */
export function anyUrl(value: string, name: string): string {
  check(value, name, [...word, notInUrl])
  if (!/^https?:\/\/[A-Za-z0-9[]/.test(value)) throw fault(name, 'is not an http or https URL')
  return value
}

/** Checks an `https` URL without query or trailing slash: a script adds to it. */
export function httpsUrl(value: string, name: string): string {
  check(value, name, [...word, notInUrl, [/[?@!&=+,*()]/, 'which a URL that is added to cannot carry']])
  if (!/^https:\/\/[A-Za-z0-9[].*[^/]$/.test(value)) {
    throw fault(name, 'is not an https URL without a slash at its end')
  }
  return value
}

/** The same by `http` too: for what is checked by its digest. */
export function plainUrl(value: string, name: string): string {
  anyUrl(value, name)
  return check(value, name, [[/[?@!&=+,*()]/, 'which a URL without a query cannot carry']])
}

/** Checks letters, digits, `-` and `_` only: a token, a session's id. The first may be `-`: use it inside a URL only. */
export function base64urlValue(value: string, name: string): string {
  checkNotEmpty(value, name)
  if (value.length > 256) throw fault(name, `has ${value.length} characters, more than 256`)
  return check(value, name, [notPrintable, [/[^A-Za-z0-9_-]/, 'which is not base64url']])
}

/** Checks base64 (RFC 4648 §4), which a shell carries inside single quotes. */
export function base64Value(value: string, name: string): string {
  checkNotEmpty(value, name)
  return check(value, name, [notPrintable, [/[^A-Za-z0-9+/=]/, 'which is not base64']])
}

/** Checks a SHA-256 in lower-case hex. */
export function sha256Hex(value: string, name: string): string {
  if (!/^[0-9a-f]{64}$/.test(value)) throw fault(name, 'is not a SHA-256 of 64 lower-case hex digits')
  return value
}

/**
 * Checks kernel arguments, one word each, and the length of the whole line that the kernel will see (2047 bytes; iPXE under
 * BIOS cuts silently). Counted as under UEFI, so that the answer does not depend on the firmware.
 */
export function kernelArguments(words: readonly string[], name: string): readonly string[] {
  for (const value of words) ipxeWord(value.replace(/^-+/, ''), name) // behind the URL iPXE reads no options
  try {
    parseKernelArguments(words.join(' '))
    checkCommandLine(ipxeCommandLineStart + words.join(' '))
    return words
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    throw fault(name, `do not fit: ${error.message}`, error.hint)
  }
}

/** Checks a word that a shell script carries inside single quotes, and that would be harmless without them. */
export function shellWord(value: string, name: string): string {
  checkNotEmpty(value, name)
  return check(value, name, [
    notPrintable,
    space,
    option,
    [/[^A-Za-z0-9._,:/@%+=[\]-]/, 'which a shell word cannot carry unquoted'],
  ])
}

/** Checks a name of a variable, as iPXE and a shell both take it. */
export function variableName(value: string, name: string): string {
  if (!/^[A-Za-z][A-Za-z0-9_]{0,63}$/.test(value)) {
    throw fault(name, 'is not a name: a letter, then at most 63 letters, digits or "_"')
  }
  return value
}

/** The last guard, for every value that is printed into a script, an operator's own template included. */
export function printable(value: string, where: string): string {
  return check(value, where, [notPrintable, expansion, separator, backslash, quotes])
}

function check(value: string, name: string, rules: readonly Rule[]): string {
  for (const [pattern, why] of rules) {
    const found = pattern.exec(value)?.[0]
    if (found !== undefined) throw fault(name, `holds ${named(found)}, ${why}`)
  }
  return value
}

function checkNotEmpty(value: string, name: string): void {
  if (value === '') throw fault(name, 'is empty')
}

function fault(name: string, what: string, hint?: string): PawlError {
  return new PawlError('render-failed', `${name} ${what}`, hint === undefined ? {} : { hint })
}

/** One character (or pair) in words that a terminal shows as they are. */
function named(found: string): string {
  if (found === ' ') return 'a space'
  if (/^[!-~]+$/.test(found)) return found === '"' ? `'"'` : `"${found}"`
  return `U+${found.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`
}
