import { once } from 'node:events'
import t from 'tap'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { freePort } from '../helpers/ports.ts'
import { bootRobot } from '../helpers/robot.ts'
import { install } from './installation.ts'
import type { CrashPoint } from './server-child.ts'

/** A whole boot is six transactions; each is cut before and after its commit, and in its middle: before every tenth statement that there is. */
const commits: CrashPoint[] = [
  ...[1, 2, 3, 4, 5, 6].map((n) => ({ at: 'before commit' as const, n })),
  ...[1, 2, 3, 4, 5, 6].map((n) => ({ at: 'after commit' as const, n })),
]

t.test('killed at each step, the boot completes or begins again', async (t) => {
  const { ca, secret, startChild, arm, withStorage, forgetSessions, bytes } = await install(t)
  const port = await freePort()
  const secrets = [secret]
  // The server that was started after one crash is the one that the next point kills.
  let child = await startChild(port)
  async function boot(point: CrashPoint): Promise<boolean> {
    const name = `${point.at} ${point.n}`
    await forgetSessions()
    await arm(child, point)
    let crashes = 0
    const result = await bootRobot({
      port,
      ca,
      host: 'node1',
      secret,
      onLost: async () => {
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
        crashes += 1
        child = await startChild(port)
      },
    })
    secrets.push(...result.tokens)
    t.ok(crashes <= 1, `${name}: ${crashes === 1 ? 'the server was killed' : 'there is no such statement'}`)
    t.ok(result.stage1s <= 2, `${name}: at most one return to stage 1`)
    await withStorage(async (storage) => {
      const node = await storage.db.selectFrom('nodes').selectAll().executeTakeFirstOrThrow()
      t.equal(node.state, 'ready', `${name}: the node is ready`)
      t.same((await verifyChains(storage.db)).faults, [], `${name}: every chain verifies`)
      const live = await storage.db
        .selectFrom('sessions')
        .select('id')
        .where('ended_at', 'is', null)
        .execute()
      t.same(live, [], `${name}: no session is left open`)
      const events = await listEvents(storage.db, { node: 'node1', limit: 10_000 })
      const redeemed = events.filter((e) => e.kind.endsWith('-redeemed')).map((e) => `${e.session} ${e.kind}`)
      t.equal(new Set(redeemed).size, redeemed.length, `${name}: no token was used twice`)
    })
    return crashes === 1
  }
  for (const point of commits) t.ok(await boot(point), `${point.at} ${point.n}: the server was killed`)
  let statement = 3
  while (await boot({ at: 'before statement', n: statement })) statement += 10
  t.ok(statement > 60, `${statement}: there are not so many statements in a boot`)
  t.ok(secrets.length > 6 * commits.length, `${secrets.length} tokens were handed out`)
  const stored = bytes()
  t.same(
    secrets.filter((token) => stored.includes(token.slice(12))),
    [],
    'none of them is in the database, not even in what it deleted',
  )
})
