import { join } from 'node:path'
import t from 'tap'
import type { By } from '../../src/fleet/change.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import type { FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { verifyChains } from '../../src/storage/events.ts'
import { watchStatements } from '../crash/statements.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { ann } from '../helpers/operators.ts'
import { openAt } from '../helpers/world.ts'

const admin: By = { ...ann, role: 'admin' }
const nothing = { set: 'default', nodes: [], profiles: [], channels: [] } as const
const of = <T>(make: (n: number) => T): T[] => Array.from({ length: 60 }, (_, n) => make(n))

const seen: string[] = []
watchStatements((text) => seen.push(text))

/** What a request runs, for SQLite has one writer: machines wait for their stages meanwhile. */
async function statementsOf(work: () => Promise<unknown>): Promise<string[]> {
  seen.length = 0
  await work()
  return [...seen]
}

t.test('many profiles and channels take a few statements each, whatever the number of nodes', async (t) => {
  const world = await openAt(t, join(t.testdir(), 'pawl.db'), {})
  await storeDemoFleet(world)
  const address = '192.0.2.7'
  const nodes = ['a', 'b'].map((name) => ({ name, profile: 'p0', addresses: [address] }))
  const profile = (n: number, kernelArguments: string): FleetRequest['profiles'][number] => ({
    ...{ name: `p${n}`, kernelArguments, evidence: ['address'], acceptAddressOnly: true },
    boot: { stage2: 'small@1', stage3: `full/c${n}`, join: { kind: 'none' } },
  })
  const channels = of((n) => ({ channel: `full/c${n}`, version: '1' }))
  const first = { ...nothing, profiles: of((n) => profile(n, 'quiet')), channels }
  const made = await statementsOf(() => applyFleet(world.context, admin, first))
  const events = made.filter((text) => text.startsWith('insert into "events"'))
  t.ok(events.length <= 2, `${events.length} statements for 120 events`)
  t.ok(made.length < 120 * 12, `${made.length} statements`)
  await applyFleet(world.context, admin, { ...first, nodes })
  let warnings: readonly { readonly message: string }[] = []
  const changed = await statementsOf(async () => {
    const again = { ...nothing, profiles: of((n) => profile(n, 'quiet splash')), channels, nodes }
    warnings = (await applyFleet(world.context, admin, again)).warnings
  })
  const shared = changed.filter((text) => /group by "address"/.test(text))
  t.equal(shared.length, 1, 'who shares an address is read once')
  t.equal(warnings.length, 1, 'and said of the profile whose nodes they are')
  t.match(warnings[0]?.message, address)
  t.same((await verifyChains(world.context.storage.db)).faults, [])
})
