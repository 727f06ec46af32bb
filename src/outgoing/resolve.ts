import { Resolver } from 'node:dns'
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { promisify } from 'node:util'

/** The addresses of a host name; rejects where there are none. */
export type Resolve = (host: string) => Promise<readonly string[]>

/**
 * Asks DNS without the system's resolver first: that one takes one of the four threads that files are read by, and a
 * receiver whose DNS does not answer would hold up downloads. What DNS does not know may be in the hosts file, which it reads.
 */
export const resolveHost: Resolve = async (host) => {
  if (isIP(host) !== 0) return [host]
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  const ask = (how: (name: string, done: (error: Error | null, addresses: string[]) => void) => void) =>
    promisify(how)
      .call(resolver, host)
      .catch((error: unknown) => (isTimeout(error) ? Promise.reject(error) : []))
  const found = (await Promise.all([ask(resolver.resolve4), ask(resolver.resolve6)])).flat()
  if (found.length > 0) return found
  return (await lookup(host, { all: true })).map(({ address }) => address)
}

function isTimeout(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === 'ETIMEOUT' || code === 'ECANCELLED'
}
