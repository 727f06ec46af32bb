import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import t, { type Test } from 'tap'
import { inTransaction } from '../../src/boot/work.ts'
import { addSeconds } from '../../src/domain/clock.ts'
import type { EventKind } from '../../src/domain/event.ts'
import { makeCheckpoint } from '../../src/fleet/checkpoints.ts'
import { eventView } from '../../src/fleet/event-view.ts'
import { byServer } from '../../src/fleet/operators.ts'
import { trimOldEvents } from '../../src/fleet/retention.ts'
import { showDeliveries, showWebhook } from '../../src/fleet/webhook-view.ts'
import {
  createWebhook,
  disableWebhook,
  enableWebhook,
  type IssuedWebhook,
  redeliver,
  redeliverDead,
  removeWebhook,
  rotateWebhookSecret,
} from '../../src/fleet/webhooks.ts'
import { openCheckpointSigner } from '../../src/pki/checkpoint-key.ts'
import { listEvents } from '../../src/storage/events.ts'
import { claimDelivery, listDue, listWebhooks, updateWebhook } from '../../src/storage/webhooks.ts'
import { recordOutcome, trimEnded } from '../../src/webhooks/deliver.ts'
import { fanOut } from '../../src/webhooks/fan-out.ts'
import { openWebhookSender, type WebhookSender } from '../../src/webhooks/sender.ts'
import { errorOf, root } from '../helpers/operators.ts'
import { type Receiver, signersOf, startReceiver } from '../helpers/receiver.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

const loopback = { webhookAllowedNetworks: [{ address: '127.0.0.1', prefixLength: 32 }] }
const resolve = async (): Promise<string[]> => ['127.0.0.1']
const log = {
  error: (fault: unknown) => t.fail(String((fault as { err: unknown }).err)),
} as unknown as Logger

interface Scene {
  readonly world: World
  readonly sender: WebhookSender
  readonly receiver: Receiver
  /** Makes a webhook to the receiver. */
  hook(name?: string, asked?: Partial<Parameters<typeof createWebhook>[2]>): Promise<IssuedWebhook>
  /** Lets events happen, one each. */
  happen(kind: EventKind, ...nodes: readonly (string | null)[]): Promise<void>
  /** Sends what is due, and waits until it is sent. */
  send(): Promise<void>
  /** Moves the clock, then sends. */
  later(seconds: number): Promise<void>
}

async function open(t: Test, openWorld: OpenWorld): Promise<Scene> {
  const world = await openWorld({ settings: loopback })
  const receiver = await startReceiver(t)
  const { context } = world
  const sender = openWebhookSender(context, { log, send: { resolve, timeoutMilliseconds: 60_000 } })
  t.teardown(() => sender.close())
  const send = async (): Promise<void> => {
    await sender.work()
    await sender.idle()
  }
  return {
    world,
    sender,
    receiver,
    hook: (name = 'chat', asked = {}) =>
      createWebhook(context, root, { name, url: receiver.url, ca: receiver.ca, kinds: ['*'], ...asked }),
    happen: async (kind, ...nodes) => {
      for (const node of nodes) await happen(world, kind, node)
    },
    send,
    later: (seconds) => {
      world.clock.advance(seconds)
      return send()
    },
  }
}

const ofServer = { session: null, actor: 'server', source: null, detail: { note: 'x' } } as const

function happen({ context }: World, kind: EventKind, node: string | null): Promise<void> {
  return inTransaction(context, (work) => work.event({ ...ofServer, kind, node }))
}

const typesOf = ({ received }: Receiver): string[] => received.map(({ body }) => JSON.parse(body).type)

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('an event that commits after its webhook was made is sent, whatever its number', async (t) => {
    const { world, hook, happen } = await open(t, openWorld)
    const { context } = world
    if (context.storage.dialect === 'postgres') {
      const begun = Promise.withResolvers<void>()
      const going = Promise.withResolvers<void>()
      const slow = inTransaction(context, async ({ event }) => {
        await event({ ...ofServer, kind: 'refused', node: 'slow' })
        begun.resolve()
        await going.promise
      })
      await begun.promise
      await happen('refused', 'fast')
      await hook('chat', { kinds: ['refused'], node: 's*' })
      going.resolve()
      await slow
    } else {
      await happen('refused', 's-before') // one writer at a time: nothing is on its way
      await hook('chat', { kinds: ['refused'], node: 's*' })
      await happen('refused', 'slow')
    }
    await happen('refused', 'soon')
    await fanOut(context)
    const deliveries = context.storage.db.selectFrom('webhook_deliveries').select('node').orderBy('event')
    t.same(await deliveries.execute(), [{ node: 'slow' }, { node: 'soon' }])
  })

  await t.test('events that go beyond their time before a webhook has taken them are counted', async (t) => {
    const { world, hook, happen, send } = await open(t, openWorld)
    const folder = mkdtempSync(join(tmpdir(), 'pawl-webhooks-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    mkdirSync(join(folder, 'pki'))
    const signer = openCheckpointSigner(folder)
    await hook('behind', { kinds: ['refused'], node: 'a*' })
    await hook('takes', { kinds: ['refused'] })
    await disableWebhook(world.context, root, 'behind')
    await happen('refused', 'a1', 'a1', 'a2', 'b1')
    await happen('session-ready', 'a1')
    await send()
    await makeCheckpoint(world.context, signer, byServer)
    world.clock.advance(40 * 86_400)
    t.match(await trimOldEvents(world.context, signer, 30), { faults: [] })
    t.same(
      (await world.events({ kind: 'webhook-events-lost' })).map(({ actor, detail }) => [actor, detail]),
      [['server', { webhook: 'behind', count: 3, cutoff: '2026-12-01T06:00:00.000Z' }]],
    )
    world.clock.advance(40 * 86_400)
    await trimOldEvents(world.context, signer, 30)
    t.equal((await world.events({ kind: 'webhook-events-lost' })).length, 1, 'once')
  })

  await t.test('an event is sent as the API shows it, signed, once', async (t) => {
    const { world, receiver, hook, happen, send, later } = await open(t, openWorld)
    await happen('node-added', 'before')
    const { secret } = await hook('chat', { url: `${receiver.url}/in?token=hunter2` })
    await happen('node-added', 'node1')
    await send()
    await later(3600)
    t.equal(receiver.received.length, 1, 'what happened before is not sent, and nothing twice')
    const [one] = receiver.received
    if (one === undefined) return
    t.same(signersOf(one, [secret, 'whsec_other']), [0])
    t.equal(one.path, '/in?token=hunter2')
    t.match(one.headers, {
      'content-type': 'application/json',
      'user-agent': 'pawl',
      'webhook-id': /^msg_[\w-]{22}$/,
      'webhook-timestamp': String(Date.parse('2026-11-21T06:00:00Z') / 1000),
    })
    const [row] = await listEvents(world.context.storage.db, { node: 'node1', limit: 1 })
    if (row === undefined) return
    t.same(JSON.parse(one.body), {
      type: 'node-added',
      timestamp: '2026-11-21T06:00:00.000Z',
      version: 1,
      data: JSON.parse(JSON.stringify(eventView(row))),
    })
    t.match(await showDeliveries(world.context.storage.db, 'chat', { limit: 10 }), [
      { id: one.headers['webhook-id'], state: 'delivered', tries: 1, result: '204', nextAt: null },
    ])
    t.match(await showWebhook(world.context, 'chat'), {
      url: `${receiver.url}/in?token=***`,
      waiting: 0,
      dead: 0,
      lastDeliveredAt: '2026-11-21T06:00:00.000Z',
    })
    const dump = await world.dump()
    for (const secretText of [secret, secret.slice(6), 'hunter2']) t.notOk(dump.includes(secretText))
  })

  await t.test('only the kinds and nodes that were asked for, and nothing about itself', async (t) => {
    const { receiver, hook, happen, send, world } = await open(t, openWorld)
    await hook('chat', { kinds: ['session-*', 'webhook-*'], node: 'rack1-*' })
    await hook('other', { kinds: ['webhook-*'], url: `${receiver.url}/other` })
    await happen('session-failed', 'rack1-a', 'rack2-a', null)
    await happen('node-added', 'rack1-b')
    await disableWebhook(world.context, root, 'chat')
    await enableWebhook(world.context, root, 'chat')
    await send()
    t.same(
      receiver.received
        .map(({ path, body }) => [path, JSON.parse(body).type, JSON.parse(body).data.node])
        .sort(),
      [
        ['/', 'session-failed', 'rack1-a'],
        ['/other', 'webhook-disabled', null],
        ['/other', 'webhook-enabled', null],
      ],
    )
  })

  await t.test('what is not taken is sent again for 24 hours, then it is a dead letter', async (t) => {
    const { world, receiver, hook, happen, send, later } = await open(t, openWorld)
    const { context } = world
    const { db } = context.storage
    await hook()
    receiver.answer = () => ({ status: 500, body: 'secret of the receiver' })
    await happen('refused', 'node1')
    await send()
    const begun = world.clock.now().getTime()
    for (let tries = 1; tries < 11; tries += 1) {
      const [delivery] = await showDeliveries(db, 'chat', { limit: 1 })
      t.match(delivery, { state: 'waiting', tries, result: '500', endedAt: null })
      const seconds = (Date.parse(delivery?.nextAt ?? '') - world.clock.now().getTime()) / 1000
      const pause = [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800][tries - 1] ?? 0
      t.ok(seconds >= pause * 0.8 && seconds <= pause * 1.2, `${seconds} s behind try ${tries}`)
      await later(Math.floor(seconds) - 1)
      t.equal(receiver.received.length, tries, 'not sooner')
      await later(2)
      t.equal(receiver.received.length, tries + 1)
    }
    const hours = (world.clock.now().getTime() - begun) / 3600_000
    t.ok(hours > 19 && hours < 28, `${hours} h`)
    t.match(await showDeliveries(db, 'chat', { limit: 9, state: 'dead' }), [{ tries: 11, nextAt: null }])
    t.equal(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size, 1)
    t.equal(new Set(receiver.received.map(({ headers }) => headers['webhook-timestamp'])).size, 11)
    await later(86_400)
    t.equal(receiver.received.length, 11, 'a dead letter is left alone')
    t.match(
      (await world.events({ kind: 'webhook-failing' })).map(({ detail }) => detail),
      [{ webhook: 'chat', of: 'refused', tries: 11, result: '500' }],
    )
    t.match(await showWebhook(context, 'chat'), { dead: 1, failures: 11, failingSince: /^2026-11-2/ })
    t.notOk((await world.dump()).includes('secret of the receiver'))

    receiver.answer = () => ({ status: 200 })
    t.same(await redeliverDead(context, root, 'chat'), { redelivered: 1 })
    t.same(await redeliverDead(context, root, 'chat'), { redelivered: 0 })
    await send()
    t.match(await showWebhook(context, 'chat'), { dead: 0, waiting: 0, failures: 0, failingSince: null })
    const [{ id } = { id: '' }] = await showDeliveries(db, 'chat', { limit: 1 })
    t.same(await redeliver(context, root, id), { redelivered: 1 }, 'one that was delivered, too')
    t.match(await errorOf(redeliver(context, root, id)), { code: 'conflict', message: /still waits/ })
    await send()
    t.equal(receiver.received.length, 13)
    t.match(await errorOf(redeliver(context, root, `msg_${'a'.repeat(22)}`)), { code: 'not-found' })
    t.match(await world.kinds({ kind: 'webhook-redelivered' }), [
      'webhook-redelivered',
      'webhook-redelivered',
    ])
  })

  await t.test('a receiver that asks for a pause gets it, and others go on', async (t) => {
    const { world, receiver, hook, happen, send, later } = await open(t, openWorld)
    await hook('busy', { url: `${receiver.url}/busy` })
    await hook('well', { url: `${receiver.url}/well` })
    let busy = true
    // Both are on their way before one is told to wait, however slow the second worker begins.
    const both = receiver.sent(3)
    receiver.answer = ({ path }) =>
      path === '/busy' && busy
        ? { status: 429, headers: { 'retry-after': '120' }, hold: both }
        : { status: 200 }
    const at = (path: string): number => receiver.received.filter((one) => one.path === path).length
    await happen('node-added', 'a')
    await send()
    t.same([at('/busy'), at('/well')], [2, 1], 'the event, and that the other webhook was made')
    t.match((await showWebhook(world.context, 'busy')).pausedUntil, '2026-11-21T06:02:00.000Z')
    await happen('node-added', 'b')
    await later(119)
    t.same([at('/busy'), at('/well')], [2, 2])
    busy = false
    await later(1)
    t.same([at('/busy'), at('/well')], [5, 2])
  })

  await t.test('410 Gone disables the webhook; nothing that waits is lost', async (t) => {
    const { world, receiver, hook, happen, send } = await open(t, openWorld)
    const { context } = world
    await hook()
    receiver.answer = () => ({ status: 410 })
    await happen('node-added', 'a')
    await send()
    t.match(await showWebhook(context, 'chat'), {
      enabled: false,
      disabledBy: 'gone',
      waiting: 1,
      revision: 2,
    })
    t.match((await world.events({ kind: 'webhook-disabled' }))[0], {
      actor: 'server',
      detail: { webhook: 'chat', cause: 'gone' },
    })
    await happen('node-added', 'b')
    await send()
    t.equal(receiver.received.length, 1)
    receiver.answer = () => ({ status: 200 })
    await enableWebhook(context, root, 'chat')
    await send()
    t.same(typesOf(receiver), ['node-added', 'node-added', 'node-added'])
    await disableWebhook(context, root, 'chat')
    await happen('node-added', 'c')
    await enableWebhook(context, root, 'chat', { fromNow: true })
    await happen('node-added', 'd')
    await send()
    t.same(JSON.parse(receiver.received[3]?.body ?? '').data.node, 'd')
    t.equal(receiver.received.length, 4)
  })

  await t.test('a worker that knew its webhook before it was disabled or paused takes no try', async (t) => {
    const { world, hook, happen } = await open(t, openWorld)
    const { context } = world
    const { db } = context.storage
    await hook()
    const [{ id = '' } = {}] = await listWebhooks(db)
    await happen('node-added', 'a')
    await fanOut(context)
    const now = context.clock()
    const [due] = await listDue(db, id, now, 1)
    if (due === undefined) throw new Error('nothing is due')
    const take = (): Promise<boolean> => claimDelivery(db, due, now, addSeconds(now, 60))
    await disableWebhook(context, root, 'chat')
    t.equal(await take(), false)
    await enableWebhook(context, root, 'chat')
    await updateWebhook(db, id, { paused_until: addSeconds(now, 1).toISOString() })
    t.equal(await take(), false)
    await updateWebhook(db, id, { paused_until: now.toISOString() })
    t.equal(await take(), true)
    t.equal(await take(), false, 'it is taken')
  })

  await t.test('what was taken counts from when it is known, and not from when it was sent', async (t) => {
    const { world, hook, happen } = await open(t, openWorld)
    const { context } = world
    const { db } = context.storage
    await hook()
    await happen('node-added', 'a', 'b')
    await fanOut(context)
    const [before] = await listWebhooks(db)
    const now = context.clock()
    const [failed, taken] = await listDue(db, before?.id ?? '', now, 2)
    if (before === undefined || failed === undefined || taken === undefined) throw new Error('two are due')
    for (const due of [failed, taken]) await claimDelivery(db, due, now, addSeconds(now, 60))
    const answered = { kind: 'answered', retryAfterSeconds: 120, body: '', milliseconds: 1 } as const
    await recordOutcome(context, before, { ...failed, tries: 1 }, { ...answered, status: 503 })
    const pausedUntil = '2026-11-21T06:02:00.000Z'
    t.match(await showWebhook(context, 'chat'), { failures: 1, pausedUntil })
    await recordOutcome(context, before, { ...taken, tries: 1 }, { ...answered, status: 200 })
    t.match(await showWebhook(context, 'chat'), { failures: 0, pausedUntil }, 'it asked for the pause')
  })

  await t.test('a redirect is not followed', async (t) => {
    const { world, receiver, hook, happen, send } = await open(t, openWorld)
    await hook()
    receiver.answer = () => ({ status: 307, headers: { location: `${receiver.url}/elsewhere` } })
    await happen('node-added', 'a')
    await send()
    t.equal(receiver.received.length, 1)
    t.match(await showDeliveries(world.context.storage.db, 'chat', { limit: 1 }), [
      { state: 'waiting', result: '307: redirects are not followed' },
    ])
  })

  await t.test('a receiver that does not answer holds up nobody but itself', async (t) => {
    const { world, receiver, hook, happen } = await open(t, openWorld)
    const { db } = world.context.storage
    // However slow this machine is: nobody gives up before the others are served.
    const send = { resolve, timeoutMilliseconds: 120_000 }
    const sender = openWebhookSender(world.context, { log, send })
    t.teardown(() => sender.close())
    let answer = (): void => {}
    const never = new Promise<void>((done) => {
      answer = done
    })
    await hook('slow', { url: `${receiver.url}/slow`, kinds: ['node-*'] })
    await hook('well', { url: `${receiver.url}/well`, kinds: ['node-*'] })
    receiver.answer = ({ path }) => (path === '/slow' ? { status: 200, hold: never } : { status: 200 })
    await happen('node-added', ...Array.from({ length: 20 }, (_, index) => `node${index}`))
    await sender.work()
    await receiver.sent(24)
    t.equal(receiver.received.filter(({ path }) => path === '/slow').length, 4, 'so many at one time')
    const closed = sender.close()
    answer()
    await closed
    t.equal((await showWebhook(world.context, 'well')).waiting, 0)
    const tried = await showDeliveries(db, 'slow', { limit: 50 })
    t.equal(tried.filter(({ tries }) => tries === 1).length, 4, 'a sender that is closed begins no other')
  })

  await t.test('a secret is replaced with a day of overlap, or at once', async (t) => {
    const { world, receiver, hook, happen, send, later } = await open(t, openWorld)
    const { context } = world
    const first = (await hook()).secret
    const rotated = await rotateWebhookSecret(context, root, 'chat')
    t.equal(rotated.previousSecretUntil, '2026-11-22T06:00:00.000Z')
    const third = async (): Promise<string> =>
      (await rotateWebhookSecret(context, root, 'chat', { atOnce: true })).secret
    const signers = (): number[] =>
      signersOf(receiver.received.at(-1) ?? never, [first, rotated.secret, last])
    let last = 'whsec_none'
    await happen('node-added', 'a')
    await send()
    t.same(signers(), [0, 1])
    await happen('node-added', 'b')
    await later(86_400)
    t.same(signers(), [1])
    last = await third()
    await happen('node-added', 'c')
    await send()
    t.same(signers(), [2])
    const dump = await world.dump()
    for (const secret of [first, rotated.secret, last]) t.notOk(dump.includes(secret.slice(6)))
    t.same(
      (await world.events({ kind: 'webhook-secret-rotated' })).map(({ detail }) => detail),
      [
        { webhook: 'chat', previousUntil: '2026-11-22T06:00:00.000Z' },
        { webhook: 'chat', previousUntil: null },
      ],
    )
  })

  await t.test('two processes send each delivery once', async (t) => {
    const { world, receiver, hook, happen, sender } = await open(t, openWorld)
    const second = openWebhookSender(world.context, { log, send: { resolve } })
    t.teardown(() => second.close())
    await hook('chat', { kinds: ['node-*'] })
    const names = Array.from({ length: 60 }, (_, index) => `node${index}`)
    await happen('node-added', ...names.slice(0, 30))
    await Promise.all([sender.work(), second.work()])
    await happen('node-added', ...names.slice(30))
    await Promise.all([sender.work(), second.work()])
    await Promise.all([sender.idle(), second.idle()])
    t.same(receiver.received.map(({ body }) => JSON.parse(body).data.node).sort(), names.toSorted())
  })

  await t.test('what waits for a receiver is bounded; the rest waits in the log', async (t) => {
    const { world, receiver, hook, happen, send } = await open(t, openWorld)
    const { context } = world
    await hook('chat', { kinds: ['node-*'] })
    await happen('node-added', 'a', 'b', 'c', 'd', 'e')
    await fanOut(context, 3)
    t.equal((await showWebhook(context, 'chat')).waiting, 3)
    await fanOut(context, 3)
    t.equal((await showWebhook(context, 'chat')).waiting, 3)
    await send()
    t.same(receiver.received.map(({ body }) => JSON.parse(body).data.node).sort(), ['a', 'b', 'c', 'd', 'e'])
  })

  await t.test('ended deliveries go after their time, those of removed webhooks at once', async (t) => {
    const { world, receiver, hook, happen, send } = await open(t, openWorld)
    const { context } = world
    await hook('chat', { kinds: ['node-*'] })
    await happen('node-added', 'a')
    await send()
    world.clock.advance(7 * 86_400 - 1)
    await trimEnded(context)
    t.equal((await showDeliveries(context.storage.db, 'chat', { limit: 9 })).length, 1)
    world.clock.advance(1)
    await trimEnded(context)
    t.equal((await showDeliveries(context.storage.db, 'chat', { limit: 9 })).length, 0)
    receiver.answer = () => ({ status: 500 })
    await happen('node-added', 'b')
    await send()
    await removeWebhook(context, root, 'chat')
    t.equal((await context.storage.db.selectFrom('webhook_deliveries').selectAll().execute()).length, 0)
    t.match((await world.events({ kind: 'webhook-removed' }))[0]?.detail, { webhook: 'chat', waiting: 1 })
  })
})

const never = { path: '', headers: {}, body: '' }
