import { type RoleName, roleNames } from './role.ts'

/**
 * What a sign-in through an OpenID Connect provider means here: which groups are which role, and what the person is
 * called. Claims come from the provider, and what is in them from whoever runs it: they are read as far as they have the
 * one form that is expected, and refused otherwise.
 */

/** A group of the provider, and what its members may do. */
export interface GroupRole {
  readonly group: string
  readonly role: RoleName
}

/** What a provider says of a person: the claims of the ID token, and of the userinfo endpoint where it was asked. */
export type Claims = Readonly<Record<string, unknown>>

/** Reads `GROUP=ROLE`; the last `=` counts, since groups may be distinguished names. Undefined where it is not of that form. */
export function parseGroupRole(text: string): GroupRole | undefined {
  const at = text.lastIndexOf('=')
  const [group, role] = [text.slice(0, at), text.slice(at + 1)]
  const known = roleNames.find((name) => name === role)
  const hasForm = at > 0 && group.length <= 256 && group.trim() === group && !/\p{Cc}/u.test(group)
  return known !== undefined && hasForm ? { group, role: known } : undefined
}

/** The highest role of these groups, with the groups that are mapped; undefined where none is. Names are compared exactly. */
export function roleOfGroups(
  groups: readonly string[],
  map: readonly GroupRole[],
): { role: RoleName; groups: string[] } | undefined {
  const has = new Set(groups)
  const mapped = map.filter(({ group }) => has.has(group))
  const role = roleNames.findLast((name) => mapped.some((one) => one.role === name))
  return role === undefined ? undefined : { role, groups: mapped.map(({ group }) => group).slice(0, 20) }
}

/** Why the groups in claims are no list of groups. */
export type GroupsFault = 'no-groups' | 'groups-elsewhere' | 'groups-malformed'

const maxGroups = 5000

/**
 * The groups in claims: one string, or a list of strings, under a name such as `groups` or a path such as
 * `realm_access.roles`. A string is one group, whatever separators are in it.
 */
export function readGroups(claims: Claims, path: string): readonly string[] | GroupsFault {
  const value = claimAt(claims, path)
  // Entra ID names a place to ask instead when there are more than about 200 (its "overage").
  if (value === undefined && claimAt(claims, `_claim_names.${path}`) !== undefined) return 'groups-elsewhere'
  if (value === undefined || value === null) return 'no-groups'
  if (typeof value === 'string') return value === '' ? 'no-groups' : [value]
  if (!Array.isArray(value) || value.length > maxGroups) return 'groups-malformed'
  return value.every((one): one is string => typeof one === 'string') ? value : 'groups-malformed'
}

/** The claim of that name, else what a path with dots leads to: names that are URLs have dots of their own. */
export function claimAt(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path]
  let value: unknown = claims
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Claims)[part]
  }
  return value
}

/** Why a person has no name here. */
export type NameFault = 'no-name' | 'name-malformed' | 'email-unverified'

/** What people's names begin with. No token's name has a slash: nobody can be taken for a token, nor a token for somebody. */
export const personPrefix = 'oidc/'

/**
 * What the person is called in the log: `oidc/` and the claim. An address counts only where the provider says that it was
 * verified: with some, people write what they like there.
 */
export function readPersonName(claims: Claims, claim: string): { name: string } | NameFault {
  const value = claimAt(claims, claim)
  if (typeof value !== 'string' || value === '') return 'no-name'
  if (claim === 'email' && claims.email_verified !== true) return 'email-unverified'
  const name = value.toLowerCase()
  return /^[a-z0-9](?:[a-z0-9._@+-]{0,126}[a-z0-9])?$/.test(name)
    ? { name: `${personPrefix}${name}` }
    : 'name-malformed'
}
