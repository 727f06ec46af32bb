import t from 'tap'
import { tendCredentials } from '../../src/boot/remove-credentials.ts'
import { loadConfig } from '../../src/config.ts'
import { isPawlError } from '../../src/errors.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { openJoining } from '../../src/open-joining.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { joiningProfile, tokensAt } from '../helpers/joining.ts'
import { startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { askStage, boot, facts, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase } from '../helpers/world.ts'

const many = 200
const most = 8

/** A site that gets its power back: all of its nodes come to their join at once, at an API server that is small. */
await forEachDatabase(t, async (t, openWorld) => {
  await t.test('of hundreds of joins at once the API serves no more than it may be asked', async (t) => {
    const api = await startKubernetesApi(t)
    const told = { busy: 0, made: 0, removed: 0 }
    const config = loadConfig({
      flags: { data: '/nowhere', maxClusterCalls: String(most), clusterTimeoutSeconds: '15' },
      env: {},
      fileName: 'none',
    })
    const errors: unknown[] = []
    const joining = openJoining({
      config,
      clock: () => new Date(),
      meter: {
        called: (call, outcome) => {
          if (outcome === 'done') told[call === 'make' ? 'made' : 'removed'] += 1
        },
        busy: () => {
          told.busy += 1
        },
      },
      onError: (error) => errors.push(error),
    })
    const world = await openWorld({ joining })
    await storeDemoFleet(world)
    const by = { actor: 'operator:test', source: null, role: 'admin' } as const
    await applyProfile(world.context, by, 'demo', { ...joiningProfile(api), acceptUnsigned: true })
    const nodes = await inTurn(
      Array.from({ length: many }, (_, n) => `storm${n}`),
      async (host) => {
        const secret = await storeNode(world, { name: host })
        const machine = machineOf(secret, { host, fields: { ...facts, secret, serial: host } })
        return { machine, learnt: await boot(world, machine, 'stage3') }
      },
    )

    // The API counts what it has in hand; the first are held until as many are there as may be.
    let inHand = 0
    let highest = 0
    const full = Promise.withResolvers<void>()
    api.answer = async ({ path }) => {
      if (!path.includes('/secrets')) return undefined
      inHand += 1
      highest = Math.max(highest, inHand)
      if (inHand === most) full.resolve()
      await full.promise
      for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      inHand -= 1
      return undefined
    }
    let waiting = nodes
    let rounds = 0
    const given: string[] = []
    while (waiting.length > 0 && rounds < many) {
      rounds += 1
      // All of them at once, and who is told to come again does: some at a time, without the wait that they are told.
      const asking = rounds === 1 ? waiting : waiting.slice(0, 5 * most)
      const outcomes = await Promise.all(
        asking.map(async (node) => {
          try {
            const { text } = await askStage(world, node.machine, 'join', node.learnt.join)
            given.push(/token\\*":\\*"([a-z0-9]{6})\./.exec(text)?.[1] ?? text)
            return true
          } catch (error) {
            if (isPawlError(error, 'join-unavailable')) return false
            throw error
          }
        }),
      )
      waiting = waiting.filter((_, at) => outcomes[at] !== true)
    }
    t.equal(highest, most, 'as many as may, and never one more')
    t.equal(new Set(given).size, many, 'each has one of its own')
    t.same(tokensAt(api).length, many)
    t.ok(told.busy > 0, 'the others were told to come again')
    t.equal(told.made, many)

    highest = 0
    await inTurn(nodes, ({ machine, learnt }) => report(world, machine, learnt.report, 'success'))
    await joining.settled()
    // What had no room is for the leader, who comes again.
    for (let rounds = 0; tokensAt(api).length > 0 && rounds < many; rounds += 1) {
      world.clock.advance(6)
      joining.inBackground(() => tendCredentials(world.context))
      await joining.settled()
    }
    t.same(tokensAt(api), [], 'none is left behind')
    t.ok(highest <= 4, 'removals are bounded too')
    t.same(errors, [])
  })
})

/** Does a step for each, twenty at a time. */
async function inTurn<One, Got>(all: readonly One[], step: (one: One) => Promise<Got>): Promise<Got[]> {
  const got: Got[] = []
  for (let at = 0; at < all.length; at += 20)
    got.push(...(await Promise.all(all.slice(at, at + 20).map(step))))
  return got
}
