import { PawlError } from '../errors.ts'
import { type AddressRange, parseAddressRange } from './address.ts'
import type { Facts } from './facts.ts'
import { macOf, uuidOf } from './facts.ts'
import { type NodeName, parseNodeName, parseSerial, quote } from './node.ts'

/** A rule approves machines for this long at most: it stands open for whoever can forge facts in its prefix. */
export const maxRuleSeconds = 7 * 86_400
/** Serial numbers in one rule. */
export const maxSerials = 10_000

/** Why a machine with a serial number of a rule was not approved by it. */
export const ruleRefusals = {
  'outside-prefix': 'it asked from an address outside the prefix of the rule',
  'serial-used': 'its serial number was used before',
  'rule-over': 'the rule has expired or was revoked',
  'limit-reached': 'the rule has approved as many machines as it may',
  'profile-gone': 'the profile of the rule does not exist any more',
  'profile-refuses':
    'the profile hands out credentials to join, and does not say that machines approved by rules may have them',
  'node-known': 'a node has its MAC address, UUID or serial number',
  'name-taken': 'a node has the name that the rule makes for it',
  'name-unfit': 'the rule makes no host name of what it tells',
} as const
export type RuleRefusal = keyof typeof ruleRefusals

const parts = /\{([^{}]*)\}/g
const known = ['serial', 'mac', 'uuid'] as const

/** Reads a template of node names, `rack1-{serial}`; throws `invalid`. What makes machines differ must be in it. */
export function parseNameTemplate(text: string): string {
  const named = [...text.matchAll(parts)].map(([, name = '']) => name)
  const unknown = named.find((name) => !(known as readonly string[]).includes(name))
  if (unknown !== undefined)
    throw new PawlError('invalid', `node name ${quote(text)}: {${unknown}} is not {serial}, {mac} or {uuid}`)
  if (named.length === 0)
    throw new PawlError('invalid', `node name ${quote(text)} has none of {serial}, {mac} and {uuid} in it`)
  parseNodeName(text.replace(parts, 'x'))
  return text
}

/** The name of a machine by a template; undefined where it does not tell what the template needs, or it makes no host name. */
export function nameByTemplate(
  template: string,
  facts: Facts & { readonly serial: string },
): NodeName | undefined {
  const values = { serial: facts.serial, mac: macOf(facts)?.replaceAll(':', ''), uuid: uuidOf(facts) }
  const used = [...template.matchAll(parts)].map(([, name]) => name as keyof typeof values) // checked above
  if (used.some((name) => values[name] === undefined)) return undefined
  try {
    return parseNodeName(
      template.replace(parts, (_, name: keyof typeof values) => asLabel(values[name] ?? '')),
    )
  } catch {
    return undefined
  }
}

/** Letters, digits and hyphens of a value: serial numbers have dots, slashes and blanks. */
function asLabel(value: string): string {
  return value
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
}

/** Reads where machines may ask from; throws `invalid`. A prefix that holds half the Internet is no place. */
export function parseRuleSources(texts: readonly string[]): AddressRange[] {
  return texts.map((text) => {
    const range = parseAddressRange(text)
    const least = range.address.includes(':') ? 16 : 8
    if (range.prefixLength >= least) return range
    throw new PawlError('invalid', `prefix ${quote(text)} is shorter than /${least}: it says next to nothing`)
  })
}

/** Reads serial numbers, each once, in order; throws `invalid` naming the first that cannot tell a machine. */
export function parseSerials(texts: readonly string[], isUnset: (serial: string) => boolean): string[] {
  const serials = [...new Set(texts.map((text) => parseSerial(text)))]
  const unset = serials.find((serial) => isUnset(serial))
  if (unset !== undefined)
    throw new PawlError('invalid', `serial number ${quote(unset)} is what firmware says that has none`)
  if (serials.length === 0) throw new PawlError('invalid', 'a rule needs a serial number')
  if (serials.length > maxSerials)
    throw new PawlError('invalid', `${serials.length} serial numbers are above the limit of ${maxSerials}`)
  return serials.sort()
}

/** Refuses serial numbers that make one name: the second machine would be left outside. Throws `invalid`. */
export function checkNames(template: string, serials: readonly string[]): void {
  if (template.replaceAll('{serial}', '').includes('{')) return // MAC address and UUID are not known yet
  const bySerial = new Map<string, string>()
  for (const serial of serials) {
    const name = nameByTemplate(template, { serial })
    if (name === undefined)
      throw new PawlError(
        'invalid',
        `serial number ${quote(serial)} makes no host name in ${quote(template)}`,
      )
    const other = bySerial.get(name)
    if (other !== undefined)
      throw new PawlError(
        'invalid',
        `serial numbers ${quote(other)} and ${quote(serial)} make one name, "${name}"`,
      )
    bySerial.set(name, serial)
  }
}
