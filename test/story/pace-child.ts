/**
 * A leader that looks at the pace of boots and is killed before its Nth statement. Run with: DATABASE N, where 0 is never.
 * Says how many statements it came to.
 */
import type { Test } from 'tap'
import { tendPaces } from '../../src/fleet/paces.ts'
import { dieAtStatement } from '../crash/statements.ts'
import { openAt } from '../helpers/world.ts'

const [database = '', n = ''] = process.argv.slice(2)
const world = await openAt({ teardown: () => {} } as unknown as Test, database, {})
world.clock.advance(700)
const statements = dieAtStatement('before', Number(n))
await tendPaces(world.context)
process.send?.(statements())
await world.context.storage.close()
