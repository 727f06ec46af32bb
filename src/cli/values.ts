import { InvalidArgumentError, Option } from 'commander'
import { parseNodeName } from '../domain/node.ts'
import { parseWebhookName } from '../domain/webhook.ts'
import { isPawlError, PawlError } from '../errors.ts'

/** Collects a flag that may be given more than once. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

/**
 * Reads an argument with a rule of the domain. What breaks it is wrong usage. Only what becomes part of a path is read
 * here: all else the server checks, and says the same to every client.
 */
export function argument<T>(text: string, parse: (text: string) => T): T {
  try {
    return parse(text)
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    throw new PawlError('usage', error.message, error.hint === undefined ? {} : { hint: error.hint })
  }
}

/** What `--if-revision` was given. */
export interface RevisionFlag {
  readonly ifRevision?: number
}

/** The flag by which a change is made only on the revision that was looked at. */
export function ifRevision(): Option {
  const flag = new Option('--if-revision <N>', 'only if it is at this revision still: "revision" in its JSON')
  return flag.argParser((text) => {
    if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
    throw new InvalidArgumentError('It must be a revision, a number from 1 on.')
  })
}

/** A node's path in the API. */
export function nodePath(name: string): string {
  return `/nodes/${argument(name, parseNodeName)}`
}

/** A webhook's path in the API. */
export function webhookPath(name: string): string {
  return `/webhooks/${argument(name, parseWebhookName)}`
}

/** Reads `KEY=VALUE` pairs; an empty value is null where `allowEmpty` says what that means. */
export function parsePairs(
  pairs: readonly string[],
  allowEmpty: boolean,
  flag = '--label',
): Record<string, string | null> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=')
      const value = pair.slice(at + 1)
      if (at < 1 || (value === '' && !allowEmpty)) {
        throw new PawlError('usage', `${flag} "${pair}" is not of the form KEY=VALUE`)
      }
      return [pair.slice(0, at), value === '' ? null : value]
    }),
  )
}

/** Throws `usage` unless exactly one of these is given. */
export function exactlyOne(given: Readonly<Record<string, boolean>>): void {
  const names = Object.keys(given)
  if (names.filter((name) => given[name]).length === 1) return
  throw new PawlError('usage', `give exactly one of ${names.slice(0, -1).join(', ')} and ${names.at(-1)}`)
}

const units: Readonly<Record<string, number>> = { m: 60, h: 3600, d: 86_400 }

/** `30m`, `12h`, `90d`, in seconds. */
export function parseDuration(text: string): number {
  const [, amount = '', unit = ''] = /^([1-9]\d{0,5})([mhd])$/.exec(text) ?? []
  const seconds = units[unit]
  if (seconds === undefined) throw new InvalidArgumentError('It must be a time such as 30m, 12h or 90d.')
  return Number(amount) * seconds
}
