import { PawlError } from '../errors.ts'
import { canonicalAddress } from './address.ts'

/** Where iPXE sends what it says on its console: by UDP to port 514 (RFC 5426), or by TLS to port 6514 (RFC 5425). */
export interface SyslogServer {
  readonly host: string
  readonly tls: boolean
}

const name = /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*$/

/** Reads `syslog://ADDRESS` or `syslogs://NAME`: iPXE takes no port, no name by UDP, and by TLS the name in the certificate. */
export function parseSyslogServer(text: string): SyslogServer {
  const [, scheme, host = ''] = /^(syslogs?):\/\/([^\s/?#@]{1,253})$/.exec(text) ?? []
  if (scheme === 'syslogs' && name.test(host)) return { host: host.toLowerCase(), tls: true }
  if (scheme === 'syslog') return { host: canonicalAddress(host.replace(/^\[(.*)\]$/, '$1')), tls: false }
  throw new PawlError('invalid', `"${text.slice(0, 300)}" is no syslog server`, {
    hint: 'syslog://ADDRESS or syslogs://NAME, without a port',
  })
}
