import { type Profile, reliesOnAddress } from '../domain/profile.ts'
import { type AddressHolder, listSharedAddresses } from '../storage/address-holders.ts'
import type { Queries } from '../storage/database.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'

/**
 * Several nodes behind one address, as behind a NAT: the address is true of each and proves none. Where a profile has nothing
 * else to prove its nodes with, their boots are refused, so it is said when it comes about and not when they boot.
 */

/** An address that several nodes have, at least one of which would need it as a proof. */
export interface SharedAddress {
  readonly address: string
  readonly nodes: readonly string[]
  /** Those whose profile asks iPXE for nothing else. */
  readonly refused: readonly string[]
}

/** The nodes behind each address that several have. */
export type AddressHolders = ReadonlyMap<string, readonly AddressHolder[]>

/** Finds them: all addresses there are, which is not to be done for each of many profiles. */
export async function addressHolders(db: Queries): Promise<AddressHolders> {
  return Map.groupBy(await listSharedAddresses(db), ({ address }) => address)
}

/** Every such address of these profiles' nodes; of all profiles where none are given. */
export async function sharedAddresses(
  db: Queries,
  profiles?: readonly Profile[],
  find: (db: Queries) => Promise<AddressHolders> = addressHolders,
): Promise<SharedAddress[]> {
  const all = profiles ?? (await listProfiles(db)).map(readProfile)
  const relying = new Set<string | null>(all.filter(reliesOnAddress).map(({ name }) => name))
  if (relying.size === 0) return []
  return [...(await find(db))].flatMap(([address, holders]) => {
    const refused = holders.filter(({ profile }) => relying.has(profile))
    if (refused.length === 0) return []
    return [{ address, nodes: holders.map(nameOf), refused: refused.map(nameOf) }]
  })
}

function nameOf({ name }: AddressHolder): string {
  return name
}

/** What to say of it, and what to do. */
export function sharedAddressWarning({ address, nodes, refused }: SharedAddress): string {
  return `${named(nodes)} share the address ${address}, which proves none of them: ${whoIsRefused(nodes, refused)}. ${remedy}`
}

/** What to do about an address that proves nothing. */
export const remedy = 'Behind a NAT a profile needs "secret" as evidence too'

function whoIsRefused(nodes: readonly string[], refused: readonly string[]): string {
  return refused.length === nodes.length
    ? 'their boots are refused'
    : `boots of ${named(refused)} are refused`
}

function named(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ')
  const more = names.length - 5
  return `${names.length === 1 ? 'node' : 'nodes'} ${shown}${more > 0 ? ` and ${more} more` : ''}`
}
