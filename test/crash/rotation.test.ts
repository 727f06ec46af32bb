import { once } from 'node:events'
import t from 'tap'
import { freshSecret } from '../../src/boot/rotate-secret.ts'
import type { EventKind } from '../../src/domain/event.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { insertSecret } from '../../src/storage/secrets.ts'
import { freePort } from '../helpers/ports.ts'
import { bootRobot, send } from '../helpers/robot.ts'
import { until } from '../helpers/until.ts'
import { install } from './installation.ts'
import type { CrashPoint } from './server-child.ts'

/** The transactions that a secret goes through: it is used (1), another is handed out (4), and said to be on the medium (5). */
const points: CrashPoint[] = [
  { at: 'before commit', n: 4 },
  ...[1, 4, 5].map((n) => ({ at: 'after commit' as const, n })),
  ...[16, 75].map((n) => ({ at: 'before statement' as const, n })),
]

t.test('a secret rotates at each boot, however the server is killed', async (t) => {
  const { ca, secret, startChild, arm, withStorage, forgetSessions, bytes } = await install(
    t,
    (tx, node, at) =>
      insertSecret(tx, {
        ...freshSecret,
        id: node.secret_id ?? '',
        node: node.id,
        secret_hash: node.secret_hash ?? '',
        kind: 'rotating',
        issued_at: at,
        issued_by: 'operator:test',
      }),
  )
  /** How many events of this kind there are. */
  const countOf = async (kind: EventKind): Promise<number> => {
    let count = 0
    await withStorage(async ({ db }) => {
      count = (await listEvents(db, { node: 'node1', kind, limit: 1000 })).length
    })
    return count
  }
  const port = await freePort()
  const medium = { secret }
  const used = [secret]
  let refused = 0
  let lostHandovers = 0
  // The server that was started after one crash is the one that the next point kills.
  let child = await startChild(port)
  for (const point of points) {
    const name = `${point.at} ${point.n}`
    await forgetSessions()
    await arm(child, point)
    let crashes = 0
    const boot = async (): Promise<void> => {
      const { stage1s } = await bootRobot({
        port,
        ca,
        host: 'node1',
        get secret() {
          return medium.secret
        },
        onLost: async () => {
          if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
          crashes += 1
          child = await startChild(port)
        },
        write: (text) => {
          medium.secret = text
          used.push(text)
        },
      })
      // A handover opens once: where its answer was lost, it is refused, and the robot goes back to stage 1.
      lostHandovers += stage1s - 1
    }
    const before = medium.secret
    await boot()
    t.equal(crashes, 1, `${name}: the server was killed`)
    t.not(medium.secret, before, `${name}: the medium has a new secret`)
    await boot()
    const old = await send({ port, ca }, 'GET', `/v1/boot/node1/stage1.ipxe?secret=${before}&serial=ROBOT`)
    t.equal(old.status, 403, `${name}: the old one opens nothing when the new one was used`)
    refused += 1
    // It is written behind the answer.
    await until(t, () => countOf('secret-reused-after-rotation'), refused)
    await withStorage(async (storage) => {
      const node = await storage.db.selectFrom('nodes').selectAll().executeTakeFirstOrThrow()
      t.equal(node.state, 'ready', `${name}: the node is ready`)
      t.same((await verifyChains(storage.db)).faults, [], `${name}: every chain verifies`)
      const open = await storage.db
        .selectFrom('node_secrets')
        .select('id')
        .where('ended', 'is', null)
        .execute()
      t.equal(open.length, 2, `${name}: one secret is current, one waits to be used`)
    })
  }
  t.equal(
    await countOf('refused'),
    points.length + lostHandovers,
    'nothing but what came with an old one was refused, and handovers that were lost',
  )
  t.equal(
    await countOf('secret-rotated'),
    used.length - 2,
    'each was used once it was there, but for the last',
  )
  const stored = bytes()
  t.same(
    used.filter((text) => stored.includes(text.slice(12))),
    [],
    'no secret is in the database',
  )
})
