import { PawlError } from '../errors.ts'
import type { Branded } from './brand.ts'

/** A public key of WireGuard as `wg pubkey` writes it: 32 bytes of base64 (wg(8)). */
export type WireguardKey = Branded<string, 'WireguardKey'>

/** Reads a public key, one line; throws `invalid`. What is taken is exactly what was sent, but for the end of its line. */
export function parseWireguardKey(text: string): WireguardKey {
  const line = text.replace(/\r?\n$/, '')
  const bytes = Buffer.from(line, 'base64')
  // All zeros is no point that a private key has, and what WireGuard takes for "no key".
  if (
    line.length !== 44 ||
    bytes.toString('base64') !== line ||
    bytes.length !== 32 ||
    bytes.every((byte) => byte === 0)
  )
    throw new PawlError('invalid', 'the WireGuard key is not a public key', {
      hint: 'send the line that `wg pubkey` writes',
    })
  return line as WireguardKey // its bytes are checked, and nothing else is there
}
