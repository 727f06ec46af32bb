import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { inTransaction } from '../../src/boot/work.ts'
import { showDeliveries } from '../../src/fleet/webhook-view.ts'
import { createWebhook } from '../../src/fleet/webhooks.ts'
import { temporaryFolder } from '../cli/helpers/installation.ts'
import { root } from '../helpers/operators.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { type Receiver, startReceiver } from '../helpers/receiver.ts'
import { contextAt, senderOf } from './sender-child.ts'

const begun = '2026-11-21T06:00:00.000Z'

function startChild(t: Test, location: string, at = begun): ChildProcess {
  const script = join(import.meta.dirname, 'sender-child.ts')
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, location, at], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

const nodesOf = ({ received }: Receiver): string[] =>
  received.map(({ body }) => JSON.parse(body).data.node as string)

async function suite(t: Test, location: string): Promise<void> {
  const receiver = await startReceiver(t)
  let now = new Date(begun)
  const context = await contextAt(location, () => now)
  t.teardown(() => context.storage.close())
  await createWebhook(context, root, {
    name: 'chat',
    url: receiver.url,
    ca: receiver.ca,
    kinds: ['node-*'],
  })
  const happen = (node: string): Promise<void> =>
    inTransaction(context, (work) =>
      work.event({ kind: 'node-added', node, session: null, actor: 'server', source: null, detail: {} }),
    )

  await t.test('killed while it sends: the event is sent again, under the same id', async (t) => {
    receiver.answer = () => ({ status: 200, hold: new Promise(() => {}) })
    await happen('a')
    const child = startChild(t, location)
    await receiver.sent(1)
    child.kill('SIGKILL')
    await once(child, 'exit')
    t.match(await showDeliveries(context.storage.db, 'chat', { limit: 1 }), [{ state: 'waiting', tries: 1 }])
    receiver.answer = () => ({ status: 200 })
    const sender = senderOf(context)
    await sender.work()
    await sender.idle()
    t.equal(receiver.received.length, 1, 'another leaves it alone while it may still be under way')
    now = new Date(now.getTime() + 60_000)
    await sender.work()
    await sender.idle()
    t.same(nodesOf(receiver), ['a', 'a'])
    const [first, second] = receiver.received.map(({ headers }) => headers['webhook-id'])
    t.equal(first, second)
    t.match(await showDeliveries(context.storage.db, 'chat', { limit: 1 }), [
      { state: 'delivered', tries: 2 },
    ])
  })

  await t.test('of two processes one sends each', async (t) => {
    const names = Array.from({ length: 40 }, (_, index) => `node${String(index).padStart(2, '0')}`)
    const before = receiver.received.length
    const children = [startChild(t, location, now.toISOString()), startChild(t, location, now.toISOString())]
    for (const name of names) await happen(name)
    await receiver.sent(before + names.length)
    // What both sent would come now: the second of a pair is never behind by more than a send.
    await happen('last')
    await receiver.sent(before + names.length + 1)
    for (const child of children) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    t.same(nodesOf(receiver).slice(before).sort(), ['last', ...names])
  })
}

await t.test('on SQLite', async (t) => suite(t, join(temporaryFolder(t), 'pawl.db')))

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
await t.test('on PostgreSQL', absent === undefined ? {} : { skip: absent }, async (t) =>
  suite(t, await (await startPostgres()).createDatabase()),
)
