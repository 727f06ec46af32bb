import { PawlError } from '../errors.ts'

const maxHeaders = 32
const maxCharacters = 16 * 1024
/** They belong to the request itself. */
const ours = new Set([
  'host',
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'connection',
  'te',
  'trailer',
  'upgrade',
  'expect',
  'keep-alive',
  'proxy-connection',
])

/** Reads `Name: value` lines; empty ones and those with a `#` in front are left out. Throws `usage`, without a value in the message. */
export function parseHeaders(text: string, file: string): Readonly<Record<string, string>> {
  const fault = (line: number, what: string): PawlError =>
    new PawlError('usage', `${file}, line ${line}: ${what}`, {
      hint: 'one header a line, like "Authorization: Bearer …"',
    })
  if (text.length > maxCharacters)
    throw new PawlError('usage', `${file} is longer than ${maxCharacters} characters`)
  const headers: Record<string, string> = {}
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const [, name = '', value = ''] =
      /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*$/.exec(
        line,
      ) ?? []
    const lower = name.toLowerCase()
    if (name === '') throw fault(index + 1, 'this is not "Name: value" in printable characters')
    if (ours.has(lower)) throw fault(index + 1, `${lower} is not to be set`)
    if (Object.hasOwn(headers, lower)) throw fault(index + 1, `${lower} is there twice`)
    if (Object.keys(headers).length >= maxHeaders) throw fault(index + 1, `more than ${maxHeaders} headers`)
    headers[lower] = value
  }
  return headers
}
