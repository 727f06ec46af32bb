import t from 'tap'
import { untold } from '../helpers/operator-events.ts'
import { listen } from '../helpers/operator-listener.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a change says who made it, from where, by which token, and what was before and after',
    async (t) => {
      const { world, send, tokens, logged } = await listen(t, openWorld)
      const table: [method: string, url: string, payload: object | undefined, kind: string][] = [
        ['POST', 'nodes', { name: 'n' }, 'node-added'],
        ['PATCH', 'nodes/n', { serial: 'S1' }, 'node-changed'],
        ['POST', 'nodes/n/disable', undefined, 'node-disabled'],
        ['POST', 'nodes/n/enable', undefined, 'node-enabled'],
        ['POST', 'nodes/n/secret', undefined, 'secret-issued'],
        ['DELETE', 'nodes/n/secret', undefined, 'secret-revoked'],
        ['DELETE', 'nodes/n', undefined, 'node-removed'],
        ['POST', 'operator-tokens', { name: 'new', role: 'viewer' }, 'operator-created'],
        ['POST', 'events/checkpoints', undefined, 'checkpoint-signed'],
        ['POST', 'events/checkpoint-keys', undefined, 'checkpoint-key-replaced'],
      ]
      const row = await world.context.storage.db
        .selectFrom('operators')
        .select('id')
        .where('name', '=', 'the-admin')
        .executeTakeFirstOrThrow()
      for (const [method, url, payload, kind] of table) {
        const before = (await world.events()).length
        const { statusCode, body } = await send('admin', method, url, payload)
        t.ok(
          statusCode < 300,
          `${method} ${url}: ${statusCode} ${statusCode < 300 ? '' : body + logged.join('')}`,
        )
        const made = (await world.events()).slice(before)
        const event = made.find((one) => one.kind === kind)
        t.match(
          event,
          { actor: 'operator:the-admin', source: '127.0.0.1', detail: { via: `token:${row.id}` } },
          kind,
        )
        t.same(untold(kind, event?.detail ?? {}), [], `${kind} says what was before and after`)
      }
      t.notMatch(JSON.stringify(await world.events()), tokens.admin.slice(12), 'and never the token')
    },
  )
})
