import type { Test } from 'tap'
import { openRandomPool } from '../../src/boot/random-pool.ts'
import type { FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { openAt, type World } from '../helpers/world.ts'

/** A fleet and what its files say next: nodes come, change and go, a profile and a channel with them. */
export const fleetBefore: FleetRequest = {
  set: 'default',
  nodes: [1, 2, 3, 4, 5, 6].map((n) => ({ name: `n${n}`, profile: 'worker', serial: `S${n}` })),
  profiles: [{ name: 'worker', boot: 'local', reinstall: { stage2: 'small@1', stage3: 'full/stable' } }],
  channels: [{ channel: 'full/stable', version: '1' }],
}

export const fleetAfter: FleetRequest = {
  set: 'default',
  nodes: [
    { name: 'n1', profile: 'worker', serial: 'other' },
    { name: 'n2', profile: 'disk', labels: { site: 'fra' } },
    ...[3, 4, 7, 8].map((n) => ({ name: `n${n}`, profile: 'worker', macs: [`52:54:00:00:00:0${n}`] })),
  ],
  profiles: [
    { name: 'worker', boot: 'local', reinstall: { stage2: 'small@1', stage3: 'full@2' } },
    { name: 'disk', boot: 'local' },
  ],
  channels: [{ channel: 'full/next', version: '2' }],
  prune: true,
  allowMassRemoval: true,
}

/** A world on a database that another process has had: with randomness of its own, not that one's again. */
export async function openFleet(t: Test, database: string): Promise<World> {
  const world = await openAt(t, database, {})
  return { ...world, context: { ...world.context, randomBytes: openRandomPool() } }
}
