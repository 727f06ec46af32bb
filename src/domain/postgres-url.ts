/** What a `postgres://` URL names: one database, and the hosts that may have it. */
export interface PostgresUrl {
  /** For each host a URL of it alone, as drivers take it; in the order of the URL. */
  readonly hosts: readonly [string, ...string[]]
  /** As it may be shown: without its password. */
  readonly shown: string
  /** Whether it asks for a server that takes writes, or for none in particular (libpq's `target_session_attrs`). */
  readonly forWrites: boolean
}

const forWrites = ['any', 'read-write', 'primary']

/**
 * Reads `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME?PARAMETERS`, several hosts as libpq takes them (PostgreSQL manual, 34.1.1.3).
 * Their number is that of the servers of a cluster, of which one takes writes. Undefined for what is no such URL.
 */
export function parsePostgresUrl(text: string): PostgresUrl | undefined {
  const [, scheme, user = '', hosts = '', rest = ''] =
    /^(postgres(?:ql)?:\/\/)([^/?#]*@)?([^/?#@]*)(.*)$/s.exec(text) ?? []
  if (scheme === undefined || `${user}${hosts}${rest}` === '') return undefined
  const names = hosts.split(',')
  if (names.length > 1 && names.some((name) => name === '' || name.startsWith(':'))) return undefined
  const [first = '', ...others] = names.map((name) => `${scheme}${user}${name}${rest}`)
  if (![first, ...others].every((url) => URL.canParse(url))) return undefined
  const shown = new URL(first)
  // libpq's other way to name several, which no driver of ours reads.
  if (/,/.test(`${shown.searchParams.get('host')}${shown.searchParams.get('port')}`)) return undefined
  const target = shown.searchParams.get('target_session_attrs') ?? 'any'
  shown.password = ''
  for (const name of ['password', 'sslpassword']) shown.searchParams.delete(name)
  const whole = shown
    .toString()
    .replace(/^([^/]*\/\/(?:[^@/?#]*@)?)[^/?#]*/, (_all, before) => `${before}${hosts}`)
  return { hosts: [first, ...others], shown: whole, forWrites: forWrites.includes(target) }
}
