import { PawlError } from '../errors.ts'
import type { Branded } from './brand.ts'

/** A public SSH host key as known_hosts has it: `TYPE BASE64`, without a comment. */
export type SshHostKey = Branded<string, 'SshHostKey'>

/** The fields of each type's key after its name, in bytes: at least, at most (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4). */
const fieldsOf: Readonly<Record<string, readonly (readonly [number, number])[]>> = {
  'ssh-ed25519': [[32, 32]],
  'ecdsa-sha2-nistp256': [
    [8, 8],
    [65, 65],
  ],
  'ecdsa-sha2-nistp384': [
    [8, 8],
    [97, 97],
  ],
  'ecdsa-sha2-nistp521': [
    [8, 8],
    [133, 133],
  ],
  // The exponent, and a modulus of 2048 to 8192 bits, with the zero that keeps it positive.
  'ssh-rsa': [
    [1, 8],
    [256, 1025],
  ],
}

const maxKeys = 8

/** Reads public host keys, one a line, at most 8 and none twice; throws `invalid`. What is taken is exactly what was sent. */
export function parseSshHostKeys(text: string): SshHostKey[] {
  const lines = text.split(/\r?\n/).filter((line) => line !== '')
  if (lines.length > maxKeys) throw new PawlError('invalid', `more than ${maxKeys} SSH host keys`)
  const keys = lines.map(parseSshHostKey)
  if (new Set(keys).size < keys.length) throw new PawlError('invalid', 'an SSH host key was given twice')
  return keys
}

function parseSshHostKey(line: string): SshHostKey {
  const [type = '', base64 = '', ...rest] = line.split(' ')
  const fields = Object.hasOwn(fieldsOf, type) ? fieldsOf[type] : undefined
  const bytes = Buffer.from(base64, 'base64')
  if (
    fields === undefined ||
    rest.length > 0 ||
    bytes.toString('base64') !== base64 ||
    !isKey(bytes, type, fields)
  )
    throw new PawlError('invalid', 'a line is not a public SSH host key', {
      hint: 'send TYPE BASE64 of each key, as in the first two words of ssh_host_*_key.pub',
    })
  return line as SshHostKey // type and base64 are checked, and nothing else is there
}

/** Whether these bytes are the type's name and its fields, each behind its length (RFC 4251 §5), and nothing more. */
function isKey(bytes: Buffer, type: string, fields: readonly (readonly [number, number])[]): boolean {
  let at = 0
  const next = (): Buffer | undefined => {
    if (at + 4 > bytes.length) return undefined
    const end = at + 4 + bytes.readUInt32BE(at)
    const field = bytes.subarray(at + 4, end)
    at = end
    return end <= bytes.length ? field : undefined
  }
  if (next()?.toString('latin1') !== type) return false
  for (const [least, most] of fields) {
    const length = next()?.length ?? -1
    if (length < least || length > most) return false
  }
  return at === bytes.length
}
