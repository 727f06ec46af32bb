import { fork } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { tendReinstalls } from '../../src/fleet/campaigns.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { verifyChains } from '../../src/storage/events.ts'
import { ann } from '../helpers/operators.ts'
import type { World } from '../helpers/world.ts'
import { fleetAfter, fleetBefore, openFleet } from './fleets.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-crash-fleet-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const prepared = join(folder, 'prepared.db')

type When = 'before' | 'after'

/** Runs the child; how many statements it came to, or undefined where it was killed. */
async function run(database: string, work: string, at: When = 'before', n = 0): Promise<number | undefined> {
  const child = fork(join(import.meta.dirname, 'fleet-child.ts'), [database, work, at, String(n)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  let statements: number | undefined
  child.once('message', (message) => {
    statements = Number(message)
  })
  const [code, signal] = await once(child, 'exit')
  if (statements === undefined) t.equal(signal, 'SIGKILL', `ended by itself with ${code}`)
  return statements
}

/** Kills the work at points all over it, the last commit's two sides among them. */
async function killAllOver(
  work: 'apply' | 'reinstall',
  check: (world: World, what: string) => Promise<void>,
): Promise<void> {
  const copy = (name: string): string => {
    const database = join(folder, `${name}.db`)
    copyFileSync(prepared, database)
    return database
  }
  const whole = (await run(copy(`${work}-whole`), work)) ?? 0
  t.ok(whole > 20, `${whole} statements`)
  const steps = [0.1, 0.4, 0.7, 0.95].map((part) => Math.ceil(whole * part))
  const points: [When, number][] = [
    ...steps.map((n): [When, number] => ['before', n]),
    ['before', whole],
    ['after', whole],
  ]
  for (const [at, n] of points) {
    const what = `${work} killed ${at} statement ${n} of ${whole}`
    const database = copy(`${work}-${at}-${n}`)
    t.equal(await run(database, work, at, n), undefined, what)
    const world = await openFleet(t, database)
    await check(world, what)
    t.same((await verifyChains(world.context.storage.db)).faults, [], `${what}: every chain verifies`)
  }
}

async function stateOf({ context: { storage } }: World): Promise<unknown> {
  const { db } = storage
  const nodes = await db
    .selectFrom('nodes')
    .select(['name', 'profile', 'serial', 'labels'])
    .orderBy('name')
    .execute()
  const profiles = await db.selectFrom('profiles').select(['name', 'document']).orderBy('name').execute()
  const channels = await db.selectFrom('channels').selectAll().orderBy('name').execute()
  const objects = await db
    .selectFrom('fleet_objects')
    .select(['kind', 'name'])
    .orderBy('kind')
    .orderBy('name')
    .execute()
  return { nodes, profiles, channels, objects }
}

t.test('a killed apply of fleet files is done whole or not at all, and can be done again', async (t) => {
  await run(prepared, 'prepare')
  const states: string[] = []
  for (const request of [fleetBefore, fleetAfter]) {
    const database = join(folder, `${states.length}.db`)
    copyFileSync(prepared, database)
    const world = await openFleet(t, database)
    await applyFleet(world.context, ann, request)
    states.push(JSON.stringify(await stateOf(world)))
  }
  const seen = new Set<number>()
  await killAllOver('apply', async (world, what) => {
    const state = states.indexOf(JSON.stringify(await stateOf(world)))
    t.not(state, -1, `${what}: nothing is half there`)
    seen.add(state)
    const events = await world.kinds({ kind: 'fleet-applied' })
    t.equal(events.length, state + 1, `${what}: on record as often as it was done`)
    await applyFleet(world.context, ann, fleetAfter)
    t.equal(JSON.stringify(await stateOf(world)), states[1], `${what}: the next apply does it`)
    t.equal(
      (await applyFleet(world.context, ann, fleetAfter)).changes.length,
      0,
      `${what}: and one more nothing`,
    )
  })
  t.same([...seen].sort(), [0, 1], 'killed on both sides of its commit')
})

t.test('a killed reinstall at scale marks no more than it may, and goes on', async (t) => {
  const seen = new Set<number>()
  await killAllOver('reinstall', async (world, what) => {
    const { db } = world.context.storage
    const marked = async (): Promise<number> =>
      (await db.selectFrom('nodes').select('name').where('reinstall', '=', 'marked').execute()).length
    const campaigns = (await db.selectFrom('campaigns').select('id').execute()).length
    seen.add(campaigns)
    t.equal(await marked(), campaigns === 0 ? 0 : 2, `${what}: with its campaign, or none`)
    await tendReinstalls(world.context)
    t.equal(await marked(), campaigns === 0 ? 0 : 2, `${what}: two at a time, as was said`)
    const places = await db.selectFrom('campaign_nodes').select('state').execute()
    t.equal(places.length, campaigns * 6, `${what}: every node has its place`)
  })
  t.same([...seen].sort(), [0, 1], 'killed on both sides of its commit')
})
