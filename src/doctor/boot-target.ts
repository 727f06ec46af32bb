import { parsePublicUrl, ValueFault } from '../config-values.ts'
import { contains, parseAddressRange } from '../domain/address.ts'
import { PawlError } from '../errors.ts'

/**
 * Version 2, LOCAL, nothing told: what a proxy sends to see whether a server is there. From addresses that `proxyProtocolFrom`
 * names the boot listener takes nothing else, and a doctor on the proxy's own machine has one of them.
 */
export const localProxyHeader = Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex')

/** Whether a boot listener on this machine wants a PROXY header from this machine, too. */
export function wantsProxyHeader(url: URL, proxyProtocolFrom: readonly string[]): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  // Who connects to an address of this machine comes from the same address.
  const own = host === 'localhost' ? ['127.0.0.1', '::1'] : [host]
  return proxyProtocolFrom.some((range) => own.some((address) => contains(parseAddressRange(range), address)))
}

/** Reads `--url`; throws `usage`. */
export function parseBootUrl(text: string): string {
  try {
    return parsePublicUrl(text)
  } catch (error) {
    if (!(error instanceof ValueFault)) throw error
    throw new PawlError('usage', `--url must be ${error.message}`, {
      hint: 'the boot listener is at the publicUrl of the server',
    })
  }
}
