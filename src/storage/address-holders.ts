import type { Queries } from './database.ts'

/** A node that has an address which another has too. */
export interface AddressHolder {
  readonly address: string
  readonly name: string
  readonly profile: string | null
}

/** Every node that has a single address which another node has too, by address and name. */
export function listSharedAddresses(db: Queries): Promise<AddressHolder[]> {
  const shared = db
    .selectFrom('node_addresses')
    .select('address')
    .where('prefix_length', 'in', [32, 128])
    .groupBy('address')
    .having((e) => e.fn.count('node').distinct(), '>', 1)
  return db
    .selectFrom('node_addresses')
    .innerJoin('nodes', 'nodes.id', 'node_addresses.node')
    .select(['node_addresses.address', 'nodes.name', 'nodes.profile'])
    .where('node_addresses.prefix_length', 'in', [32, 128])
    .where('node_addresses.address', 'in', shared)
    .orderBy('node_addresses.address')
    .orderBy('nodes.name')
    .execute()
}
