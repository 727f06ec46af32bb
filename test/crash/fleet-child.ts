/**
 * Changes a fleet in a process that ends without a warning before a given statement of its SQL, or behind it. Run with: DATABASE WORK
 * AT N, where WORK is `prepare`, `apply` or `reinstall`, AT is `before` or `after`, and N counts statements of the work; 0 is never.
 */
import type { Test } from 'tap'
import { tendReinstalls } from '../../src/fleet/campaigns.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { reinstall } from '../../src/fleet/reinstall.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { ann } from '../helpers/operators.ts'
import { fleetAfter, fleetBefore, openFleet } from './fleets.ts'
import { dieAtStatement } from './statements.ts'

const [database = '', work = '', at = '', n = ''] = process.argv.slice(2)
const closing: (() => unknown)[] = []
const t = { teardown: (close: () => unknown) => closing.push(close) } as unknown as Test // all that is used of it
const world = await openFleet(t, database)

const works: Readonly<Record<string, () => Promise<unknown>>> = {
  prepare: async () => {
    await storeDemoFleet(world)
    await applyFleet(world.context, ann, fleetBefore)
  },
  apply: () => applyFleet(world.context, ann, fleetAfter),
  reinstall: async () => {
    await reinstall(world.context, ann, { match: 'n?', maxParallel: 2 })
    await tendReinstalls(world.context)
  },
}

const statements = dieAtStatement(at, Number(n))
await works[work]?.()
for (const close of closing) await close()
process.send?.(statements())
