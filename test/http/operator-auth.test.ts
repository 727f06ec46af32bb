import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'
import { createOperator } from '../../src/fleet/operators.ts'
import { openApiOf } from '../../src/http/openapi.ts'
import type { Role } from '../../src/storage/tables.ts'
import { operationAt } from '../helpers/conforms.ts'
import { listen, listenOver, roles, send } from '../helpers/operator-listener.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { forEachDatabase, openAt } from '../helpers/world.ts'

const hex = 'a'.repeat(64)

/** Every route, the role it needs, and what an entitled, empty-handed caller of an empty fleet is answered. */
const routes: [string, string, Role | readonly Role[], number][] = [
  ['GET', 'nodes', 'viewer', 200],
  ['GET', 'overview', 'viewer', 200],
  ['GET', 'image-uses', 'viewer', 200],
  ['POST', 'nodes', 'operator', 400],
  ['GET', 'nodes/n', 'viewer', 404],
  ['PATCH', 'nodes/n', 'operator', 400],
  ['DELETE', 'nodes/n', 'operator', 404],
  ['POST', 'nodes/n/disable', 'operator', 404],
  ['POST', 'nodes/n/enable', 'operator', 404],
  ['POST', 'nodes/n/arm', 'operator', 404],
  ['POST', 'nodes/n/secret', 'operator', 404],
  ['DELETE', 'nodes/n/secret', 'operator', 404],
  ['GET', 'nodes/n/certificates', 'viewer', 404],
  ['POST', 'nodes/n/certificates', 'operator', 400],
  ['DELETE', 'nodes/n/certificates/0123456789abcdef', 'operator', 404],
  ['POST', 'nodes/n/leave', 'operator', 404],
  ['GET', 'nodes/n/leave', 'viewer', 404],
  ['POST', 'nodes/n/leave/cancel', 'operator', 404],
  ['GET', 'nodes/n/media', 'viewer', 404],
  ['GET', 'nodes/n/timeline', 'viewer', 404],
  ['GET', 'nodes/n/logs', 'viewer', 404],
  ['GET', 'nodes/n/sessions', 'viewer', 404],
  ['POST', 'reinstall', 'operator', 400],
  ['GET', 'pending', 'viewer', 200],
  ['POST', 'pending/aaaaa-bbbbb/approve', 'operator', 400],
  ['POST', 'pending/aaaaa-bbbbb/reject', 'operator', 404],
  ['HEAD', `artifacts/sha256/${hex}`, 'publisher', 404],
  ['PUT', `artifacts/sha256/${hex}`, 'publisher', 400],
  ['GET', 'images', 'viewer', 200],
  ['GET', 'images/n/1', 'viewer', 404],
  ['POST', 'images', 'publisher', 400],
  ['GET', 'images/n/1/signatures', 'viewer', 404],
  ['POST', 'images/n/1/signatures', 'publisher', 404],
  ['POST', 'images/n/1/reread', ['operator', 'publisher'], 404],
  ['GET', 'publishers', 'viewer', 200],
  ['GET', 'publishers/n', 'viewer', 404],
  ['POST', 'publishers', 'publisher', 400],
  ['POST', 'publishers/issue', 'admin', 400],
  ['DELETE', 'publishers/n', 'admin', 404],
  ['GET', 'profiles', 'viewer', 200],
  ['GET', 'profiles/p', 'viewer', 404],
  ['PUT', 'profiles/p', 'operator', 400],
  ['POST', 'fleet', 'operator', 400],
  ['GET', 'fleet', 'viewer', 200],
  ['GET', 'fleet/sets', 'viewer', 200],
  ['GET', 'events', 'viewer', 200],
  ['GET', 'events/verify', 'viewer', 200],
  ['GET', 'events/checkpoints', 'viewer', 200],
  ['GET', 'events/stream?after=999999999', 'viewer', 409],
  ['POST', 'events/checkpoints', 'operator', 201],
  ['GET', 'events/checkpoints/999', 'viewer', 404],
  ['GET', 'identity', 'viewer', 200],
  ['POST', 'identity/rotate', 'admin', 400],
  ['GET', 'nodes/n/identities', 'viewer', 404],
  ['GET', 'events/checkpoint-keys', 'viewer', 200],
  ['POST', 'events/checkpoint-keys', 'admin', 201],
  ['GET', 'events/chains', 'viewer', 200],
  ['GET', 'events/chained', 'viewer', 200],
  ['POST', 'events/positions', 'viewer', 400],
  ['GET', 'whoami', 'viewer', 200],
  ['GET', 'images/n/1/tests', 'viewer', 200],
  ['POST', 'images/n/1/tests', 'publisher', 400],
  ['GET', `artifacts/sha256/${hex}`, 'publisher', 404],
  ['POST', 'prune', 'admin', 400],
  ['DELETE', 'images/n/1', 'admin', 404],
  ['GET', 'channels', 'viewer', 200],
  ['GET', 'channels/n/c', 'viewer', 404],
  ['PUT', 'channels/n/c', ['operator', 'publisher'], 400],
  ['POST', 'channels/n/c/rollback', ['operator', 'publisher'], 400],
  ['PUT', 'channels/n/c/rules', 'admin', 400],
  ['GET', 'proposals', 'viewer', 200],
  ['GET', 'proposals/x', 'viewer', 404],
  ['POST', 'proposals/x/approve', ['operator', 'publisher'], 404],
  ['POST', 'proposals/x/reject', ['operator', 'publisher'], 404],
  ['GET', 'rollouts', 'viewer', 200],
  ['GET', 'reinstalls', 'viewer', 200],
  ['GET', 'reinstalls/x', 'viewer', 404],
  ['GET', 'reinstalls/x/nodes', 'viewer', 404],
  ['POST', 'reinstalls/x/pause', 'operator', 404],
  ['POST', 'reinstalls/x/resume', 'operator', 404],
  ['POST', 'reinstalls/x/cancel', 'operator', 404],
  ['GET', 'auto-approvals', 'viewer', 200],
  ['POST', 'auto-approvals', 'operator', 400],
  ['GET', 'auto-approvals/x', 'viewer', 404],
  ['GET', 'auto-approvals/x/serials', 'viewer', 404],
  ['POST', 'auto-approvals/x/revoke', 'operator', 404],
  ['DELETE', 'auto-approvals/x', 'operator', 404],
  ['GET', 'nodes/x/refused-facts', 'viewer', 404],
  ['POST', 'nodes/x/accept-facts', 'operator', 400],
  ['GET', 'rollouts/x', 'viewer', 404],
  ['POST', 'rollouts', ['operator', 'publisher'], 400],
  ['POST', 'rollouts/x/pause', ['operator', 'publisher'], 404],
  ['POST', 'rollouts/x/resume', ['operator', 'publisher'], 404],
  ['POST', 'rollouts/x/abort', ['operator', 'publisher'], 404],
  ['GET', 'status', 'viewer', 200],
  ['GET', 'prometheus/sd', 'viewer', 200],
  ['GET', 'ipxe', 'viewer', 200],
  ['GET', '/metrics', 'viewer', 200],
  ['GET', 'roots', 'viewer', 200],
  ['GET', 'extensions', 'viewer', 200],
  ['GET', 'extensions/o', 'viewer', 404],
  ['PUT', 'extensions/o', 'admin', 400],
  ['DELETE', 'extensions/o', 'admin', 404],
  ['GET', 'extension-keys', 'viewer', 200],
  ['POST', 'extension-keys/rotate', 'admin', 200],
  ['GET', 'webhooks', 'viewer', 200],
  ['GET', 'webhooks/n', 'viewer', 404],
  ['GET', 'webhooks/n/deliveries', 'viewer', 404],
  ['POST', 'webhooks', 'admin', 400],
  ['PATCH', 'webhooks/n', 'admin', 400],
  ['DELETE', 'webhooks/n', 'admin', 404],
  ['POST', 'webhooks/n/disable', 'admin', 404],
  ['POST', 'webhooks/n/enable', 'admin', 404],
  ['POST', 'webhooks/n/rotate-secret', 'admin', 404],
  ['POST', 'webhooks/n/test', 'operator', 404],
  ['POST', 'webhooks/n/redeliver-dead', 'operator', 404],
  ['POST', `webhook-deliveries/msg_${'a'.repeat(22)}/redeliver`, 'operator', 404],
  ['GET', 'operator-tokens', 'admin', 200],
  ['POST', 'operator-tokens', 'admin', 400],
  ['GET', 'operator-tokens/x', 'admin', 404],
  ['DELETE', 'operator-tokens/x', 'admin', 404],
  ['GET', 'operator-sessions', 'admin', 200],
  ['DELETE', 'operator-sessions/x', 'admin', 404],
  ['GET', 'people', 'admin', 200],
  ['DELETE', 'people/x', 'admin', 404],
  ['GET', 'operator-certificates', 'admin', 200],
  ['POST', 'operator-certificates', 'admin', 400],
  ['DELETE', 'operator-certificates/x', 'admin', 404],
  ['POST', 'logout', 'viewer', 409],
]

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'every route wants a token of its role: none, wrong, expired and revoked ones are 401, other roles 403',
    async (t) => {
      const { world, app, send: ask, tokens } = await listen(t, openWorld)
      const { context, clock } = world
      const expiresAt = new Date(clock.now().getTime() + 60_000)
      const expired = await createOperator(context, { name: 'gone', role: 'admin', expiresAt })
      const revoked = await createOperator(context, { name: 'out', role: 'admin', expiresAt: null })
      const revokedAt = clock.now().toISOString()
      await context.storage.db
        .updateTable('operators')
        .set({ revoked_at: revokedAt })
        .where('name', '=', 'out')
        .execute()
      const wrongSecret = tokens.admin.slice(0, 43) + (tokens.admin.endsWith('A') ? 'B' : 'A')
      const bad: [string, string | undefined, string][] = [
        ['no token', undefined, 'no valid operator token was given'],
        ['another form', 'x', 'no valid operator token was given'],
        ['an unknown one', 'A'.repeat(44), 'no valid operator token was given'],
        ['a wrong secret', wrongSecret, 'no valid operator token was given'],
        ['an expired one', expired, 'the operator token expired at 2026-11-21T06:01:00.000Z'],
        ['a revoked one', revoked, 'the operator token was revoked'],
      ]
      for (const [method, url, needed, entitled] of routes) {
        clock.advance(61) // so that wrong tokens are not too many
        for (const [what, token, detail] of bad) {
          const response = await send(app, token, method, url)
          t.equal(response.statusCode, 401, `${method} ${url} with ${what}`)
          t.equal(response.headers['www-authenticate'], 'Bearer realm="pawl"')
          if (method !== 'HEAD') t.match(response.json(), { status: 401, code: 'unauthenticated', detail })
        }
        for (const role of roles) {
          const response = await ask(role, method, url)
          const may = [needed].flat().includes(role) || role === 'admin' || needed === 'viewer'
          t.equal(response.statusCode, may ? entitled : 403, `${method} ${url} as ${role}`)
          if (may || method === 'HEAD') continue
          const detail = `this needs the role ${[needed].flat().join(' or ')}; the-${role} has ${role}`
          t.match(response.json(), { code: 'forbidden', detail })
        }
      }
      const document = openApiOf(app)
      const tried = new Map<string, string>()
      for (const [method, url, needed] of routes) {
        const path = url.startsWith('/') ? url : `/api/v1/${url}`
        tried.set(
          operationAt(document, method, path.split('?')[0] ?? '')?.name ?? url,
          [needed].flat().join(),
        )
      }
      const described = new Map<string, string>()
      for (const [path, operations] of Object.entries(document.paths)) {
        for (const [method, operation] of Object.entries(operations)) {
          const role = [operation['x-pawl-role']].flat().join()
          if (role !== 'anyone') described.set(`${method.toUpperCase()} ${path}`, role)
        }
      }
      const sorted = (map: Map<string, string>): string[] => [...map].map((row) => row.join(': ')).sort()
      t.strictSame(sorted(tried), sorted(described), 'the table has every route that needs a role')
    },
  )

  await t.test(
    'wrong tokens past twenty a minute and address are 429; a right token is never held up',
    async (t) => {
      const { world, app, send: ask, tokens } = await listen(t, openWorld)
      const from = (remoteAddress: string, token = 'x'): Promise<LightMyRequestResponse> =>
        app.inject({ url: '/api/v1/whoami', headers: { authorization: `Bearer ${token}` }, remoteAddress })
      for (let i = 0; i < 20; i += 1) t.equal((await from(`2001:db8::${i}`)).statusCode, 401)
      world.clock.advance(15)
      const held = await from('2001:db8::99')
      t.match(
        [held.statusCode, held.headers['retry-after'], held.json().code],
        [429, '45', 'too-many-attempts'],
      )
      t.equal((await from('2001:db8:0:1::1')).statusCode, 401, 'another /64')
      t.equal((await from('2001:db8::99', tokens.viewer)).statusCode, 200)
      world.clock.advance(46)
      t.equal((await from('2001:db8::99')).statusCode, 401)
      t.equal((await ask('viewer', 'GET', 'whoami')).statusCode, 200)
    },
  )

  await t.test(
    'tells when and from where a token was used last, to the minute, and waits for nothing',
    async (t) => {
      const { world, app, send: ask, tokens } = await listen(t, openWorld)
      const used = async (): Promise<unknown[]> => {
        const { items } = (await ask('admin', 'GET', 'operator-tokens')).json()
        return items
          .filter(({ name }: { name: string }) => name === 'the-viewer')
          .map((one: Record<string, unknown>) => [one.lastUsedAt, one.lastUsedFrom, one.personal])
      }
      const from = async (remoteAddress: string): Promise<number> => {
        const headers = { authorization: `Bearer ${tokens.viewer}` }
        return (await app.inject({ url: '/api/v1/whoami', headers, remoteAddress })).statusCode
      }
      t.same(await used(), [[null, null, false]])
      await from('192.0.2.1')
      await until(t, async () => (await used())[0], ['2026-11-21T06:00:00.000Z', '192.0.2.1', false])
      world.clock.advance(59)
      await from('192.0.2.2')
      t.same(await used(), [['2026-11-21T06:00:00.000Z', '192.0.2.1', false]], 'once a minute')
      world.clock.advance(1)
      await from('::ffff:192.0.2.3')
      await until(t, async () => (await used())[0], ['2026-11-21T06:01:00.000Z', '192.0.2.3', false])
      world.clock.advance(61)
      t.equal((await send(app, `${tokens.viewer.slice(0, 43)}_`, 'GET', 'whoami')).statusCode, 401)
      t.same(await used(), [['2026-11-21T06:01:00.000Z', '192.0.2.3', false]], 'a wrong secret uses nothing')
    },
  )

  await t.test(
    'whoever presents what opens nothing is on the record, with no name but one it has proven',
    async (t) => {
      const { world, app, tokens } = await listen(t, openWorld)
      const expiresAt = new Date(world.clock.now().getTime() + 1000)
      const expired = await createOperator(world.context, { name: 'gone', role: 'admin', expiresAt })
      world.clock.advance(2)
      const wrong = `${tokens.admin.slice(0, 43)}_`
      for (const token of [undefined, 'x', wrong, 'A'.repeat(44), expired])
        await send(app, token, 'GET', 'nodes')
      const events = await world.events({ kind: 'operator-refused' })
      t.same(
        events.map(({ actor, source, detail }) => [actor, source, detail]),
        [
          ['unknown', '127.0.0.1', { cause: 'malformed-token', request: '/api/v1/nodes' }],
          ['unknown', '127.0.0.1', { cause: 'unknown-token', request: '/api/v1/nodes' }],
          ['unknown', '127.0.0.1', { cause: 'unknown-token', request: '/api/v1/nodes' }],
          [
            'unknown',
            '127.0.0.1',
            { cause: 'expired-token', request: '/api/v1/nodes', token: expired.slice(0, 12), name: 'gone' },
          ],
        ],
      )
      for (let i = 0; i < 500; i += 1) await send(app, 'A'.repeat(44), 'GET', 'nodes')
      world.clock.advance(61)
      await world.context.refusals.flush()
      t.equal(
        (await world.events({ kind: 'operator-refused' })).length,
        12,
        'ten a minute, cause and address',
      )
      const [counted] = await world.events({ kind: 'refusals-counted' })
      t.match(counted, {
        actor: 'unknown',
        detail: { of: 'operator-refused', cause: 'unknown-token', count: 492 },
      })
      t.notMatch(await world.dump(), wrong.slice(12), 'what was presented is nowhere')
    },
  )
})

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
const needsPostgres = absent === undefined ? {} : { skip: absent }

t.test('what was revoked at one replica opens nothing at another, at once', needsPostgres, async (t) => {
  const database = await (await startPostgres()).createDatabase()
  const here = await listen(t, (options = {}) => openAt(t, database, options))
  const { app: there } = await listenOver(t, await openAt(t, database, {}))
  const id = here.tokens.viewer.slice(0, 12)
  const ask = (): Promise<LightMyRequestResponse> => send(there, here.tokens.viewer, 'GET', 'whoami')
  t.equal((await ask()).statusCode, 200)
  t.equal((await here.send('admin', 'DELETE', `operator-tokens/${id}`)).statusCode, 200)
  t.match((await ask()).json(), { status: 401, detail: 'the operator token was revoked' })
})
