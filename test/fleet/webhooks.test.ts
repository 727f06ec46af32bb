import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createWebhook, disableWebhook, setWebhook } from '../../src/fleet/webhooks.ts'
import { pingWebhook } from '../../src/webhooks/ping.ts'
import { prepared } from '../cli/helpers/installation.ts'
import { listen } from '../helpers/operator-listener.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { startReceiver } from '../helpers/receiver.ts'
import { forEachDatabase } from '../helpers/world.ts'

const url = 'https://hooks.example.test/pawl?token=hunter2'
const asked = { name: 'chat', url, kinds: ['node-*', 'refused'], node: 'rack1-*' }

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('what could never be sent is refused, and nothing is made', async (t) => {
    const { send, world } = await listen(t, openWorld)
    for (const [change, detail] of [
      [{ name: 'Chat' }, /"name" must match pattern/],
      [{ url: 'http://hooks.example.test/' }, 'http:// is for networks that are listed'],
      [{ url: 'https://10.0.0.1/' }, '10.0.0.1 is not an address of the public Internet'],
      [
        { url: 'https://2852039166/latest/meta-data' },
        '169.254.169.254 is not an address of the public Internet',
      ],
      [{ url: 'https://[::ffff:10.0.0.1]/' }, '::ffff:a00:1 is not an address of the public Internet'],
      [{ url: 'https://u:hunter2@hooks.example.test/' }, "the webhook's URL holds a user or password"],
      [{ url: 'ftp://hunter2.example.test' }, /^the webhook's URL is not https:/],
      [{ kinds: [] }, 'a webhook needs a kind of event'],
      [{ kinds: ['nope'] }, '"nope" is no kind of event'],
      [{ node: 'Rack 1' }, '"Rack 1" is not a pattern of node names'],
      [{ ca: 'x' }, 'ca is not one to eight certificates (PEM)'],
      [
        { ca: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' },
        /^ca is not one to eight certificates/,
      ],
      [{ secret: 'mine' }, 'body: unknown field "secret"'],
    ] as const) {
      const answer = await send('admin', 'POST', 'webhooks', { ...asked, ...change })
      t.equal(answer.statusCode, 400, JSON.stringify(change))
      t.match(answer.json().detail, detail)
      t.notMatch(answer.body, 'hunter2')
    }
    t.same((await send('viewer', 'GET', 'webhooks')).json(), { items: [], next: null })
    t.same(await world.kinds({ kind: 'webhook-created' }), [])
  })

  await t.test(
    'made, read without secrets, changed and removed: each on the record, before and after',
    async (t) => {
      const { send, world } = await listen(t, openWorld)
      const made = await send('admin', 'POST', 'webhooks', asked)
      t.equal(made.statusCode, 201)
      const { secret, ...view } = made.json()
      t.match(secret, /^whsec_/)
      t.same(view, {
        name: 'chat',
        revision: 1,
        url: 'https://hooks.example.test/pawl?token=***',
        unreadable: false,
        kinds: ['node-*', 'refused'],
        node: 'rack1-*',
        ca: null,
        enabled: true,
        disabledBy: null,
        waiting: 0,
        dead: 0,
        failures: 0,
        failingSince: null,
        pausedUntil: null,
        lastDeliveredAt: null,
        previousSecretUntil: null,
        createdAt: '2026-11-21T06:00:00.000Z',
        createdBy: 'operator:the-admin',
        updatedAt: '2026-11-21T06:00:00.000Z',
      })
      t.equal((await send('admin', 'POST', 'webhooks', asked)).json().code, 'exists')
      const read = await send('viewer', 'GET', 'webhooks/chat')
      t.same(read.json(), view)
      t.match(read.headers.etag, /^"r1\./)

      const ca = readFileSync(join((await prepared()).folder, 'ca.crt'), 'utf8')
      const changed = await send('admin', 'PATCH', 'webhooks/chat', { kinds: ['*'], node: null, ca })
      t.match(changed.json(), { kinds: ['*'], node: null, ca: /^-----BEGIN CERT/, revision: 2 })
      t.equal(
        (await send('admin', 'PATCH', 'webhooks/chat', { kinds: ['*'] })).json().revision,
        2,
        'no change',
      )
      t.equal((await send('admin', 'PATCH', 'webhooks/chat', {})).statusCode, 400)
      t.match((await send('admin', 'POST', 'webhooks/chat/disable')).json(), {
        enabled: false,
        disabledBy: 'operator',
      })
      t.match((await send('admin', 'POST', 'webhooks/chat/enable', { fromNow: true })).json(), {
        enabled: true,
      })
      const rotated = (await send('admin', 'POST', 'webhooks/chat/rotate-secret')).json()
      t.match(rotated, { secret: /^whsec_/, previousSecretUntil: '2026-11-22T06:00:00.000Z', revision: 5 })
      t.not(rotated.secret, secret)
      const stale = { ...root, precondition: { at: [1] } }
      t.match(await errorOf(setWebhook(world.context, stale, 'chat', { kinds: ['refused'] })), {
        code: 'precondition-failed',
        message: /webhook "chat" is at revision 5, not 1: .*webhook-changed/,
      })
      t.equal((await send('admin', 'DELETE', 'webhooks/chat')).statusCode, 204)
      t.match(await errorOf(disableWebhook(world.context, root, 'chat')), { code: 'not-found' })

      const events = (await world.events()).filter(({ kind }) => kind.startsWith('webhook-'))
      t.same(
        events.map(({ kind }) => kind.slice('webhook-'.length)),
        ['created', 'changed', 'disabled', 'enabled', 'secret-rotated', 'removed'],
      )
      const after = {
        url: 'https://hooks.example.test/pawl?token=***',
        kinds: ['*'],
        node: null,
        ca: [/^([0-9A-F]{2}:)/],
      }
      t.match(events[0], {
        actor: 'operator:the-admin',
        detail: {
          webhook: 'chat',
          before: null,
          after: { kinds: ['node-*', 'refused'], node: 'rack1-*', ca: null },
        },
      })
      t.match(events[1]?.detail, { before: { kinds: ['node-*', 'refused'] }, after })
      t.match(events[5]?.detail, { before: after, after: null, waiting: 0, dead: 0 })
      const dump = await world.dump()
      for (const text of [secret, rotated.secret, 'hunter2'])
        t.notOk(dump.includes(text), 'sealed, and in no event')
    },
  )

  await t.test('a ping says what was answered, or why nothing was', async (t) => {
    const { send } = await listen(t, openWorld)
    await send('admin', 'POST', 'webhooks', { ...asked, url: 'https://localhost:1/' })
    const answer = await send('operator', 'POST', 'webhooks/chat/test')
    t.match(answer.json(), {
      webhook: 'chat',
      ok: false,
      status: null,
      reason: /is not of the public Internet/,
    })
    t.equal((await send('viewer', 'POST', 'webhooks/chat/test')).statusCode, 403)
  })

  await t.test('what a receiver answers, which may repeat the URL, is for admins only', async (t) => {
    const settings = { webhookAllowedNetworks: [{ address: '127.0.0.0', prefixLength: 8 }] }
    const { context } = await openWorld({ settings })
    const receiver = await startReceiver(t, { tls: false })
    receiver.answer = ({ path }) => ({ status: 404, body: `Cannot POST ${path}` })
    await createWebhook(context, root, { name: 'echo', url: `${receiver.url}/T01?key=hunter2`, kinds: ['*'] })
    const ping = await pingWebhook(context, ann, 'echo')
    t.match(ping, { ok: false, status: 404, body: null })
    t.notMatch(JSON.stringify(ping), /hunter2|T01/)
    t.match(await pingWebhook(context, root, 'echo'), {
      status: 404,
      body: /^Cannot POST .*T01.key=hunter2$/,
    })
  })
})
