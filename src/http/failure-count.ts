import { countingUnit } from '../domain/address.ts'
import type { Clock } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'

const failuresPerMinute = 20
const maxAddresses = 10_000

/** Counts what was wrong, by where it came from. */
export interface FailureCount {
  /** Counts one; throws `too-many-attempts` past the limit. */
  count(source: string): void
  /** Throws the same where the limit is reached already: for what costs more than a look into the database. */
  refuseMore(source: string): void
}

/**
 * Counts wrong tokens, cookies, certificates, sign-ins and codes per address (IPv6: per /64). Past the limit they are
 * answered 429 for the rest of the minute; what is right is never held up, so that nobody locks operators out from an
 * address they share. Guessing 192 random bits is hopeless either way: this bounds noise.
 */
export function openFailureCount(clock: Clock): FailureCount {
  const windows = new Map<string, { readonly since: number; failures: number }>()

  function windowOf(unit: string, now: number): { readonly since: number; failures: number } {
    const known = windows.get(unit)
    return known !== undefined && now - known.since < 60_000 ? known : { since: now, failures: 0 }
  }

  function refuse(since: number, now: number): never {
    throw new PawlError(
      'too-many-attempts',
      'too many wrong tokens, sign-ins or codes came from this address',
      { retryAfterSeconds: Math.ceil((since + 60_000 - now) / 1000) },
    )
  }

  return {
    count(source) {
      const now = clock().getTime()
      const unit = countingUnit(source)
      const window = windowOf(unit, now)
      window.failures += 1
      windows.delete(unit)
      windows.set(unit, window) // behind the others: the first is the one that was quiet longest
      const [quietest] = windows.keys()
      if (windows.size > maxAddresses && quietest !== undefined) windows.delete(quietest)
      if (window.failures > failuresPerMinute) refuse(window.since, now)
    },
    refuseMore(source) {
      const now = clock().getTime()
      const { since, failures } = windowOf(countingUnit(source), now)
      if (failures >= failuresPerMinute) refuse(since, now)
    },
  }
}
