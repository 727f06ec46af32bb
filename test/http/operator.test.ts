import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'
import { enrol } from '../../src/boot/enrol.ts'
import { digestOf } from '../../src/domain/digest.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { listen, send } from '../helpers/operator-listener.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { forEachDatabase, plainTemplates } from '../helpers/world.ts'

const hex = 'a'.repeat(64)

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses wrong input with a problem that names it, and does nothing', async (t) => {
    const { send: ask, app, world, tokens } = await listen(t, openWorld)
    const table: [string, string, unknown, number, string | RegExp][] = [
      ['POST', 'nodes', {}, 400, /body.*name/],
      ['POST', 'nodes', { name: 'a', colour: 'red' }, 400, 'body: unknown field "colour"'],
      ['POST', 'nodes', { name: 7 }, 400, /body: "name" must be string/],
      ['POST', 'nodes', { name: 'a', macs: '52:54:00:00:00:01' }, 400, /"macs" must be array/],
      ['POST', 'nodes', { name: 'a', labels: { rack: 7 } }, 400, /labels/],
      ['POST', 'nodes', [], 400, /body must be object/],
      ['POST', 'nodes', { name: 'A' }, 400, /"A" is not a host name/],
      ['POST', 'nodes', { name: 'a', uuid: null }, 400, /uuid/],
      ['POST', 'nodes', { name: 'a', profile: 'x' }, 404, /profile "x" does not exist/],
      ['POST', 'nodes?force=1', { name: 'a' }, 400, 'querystring: unknown field "force"'],
      ['PATCH', 'nodes/a', { name: 'b' }, 400, 'body: unknown field "name"'],
      ['PATCH', 'nodes/a', { uuid: true }, 400, /uuid/],
      ['POST', 'nodes/a/disable', { dryRun: true }, 400, /unknown field "dryRun"/],
      ['DELETE', 'nodes/a', { dryRun: true }, 400, /unknown field "dryRun"/],
      ['GET', 'nodes?limit=0', undefined, 400, /limit/],
      ['GET', 'nodes?limit=1001', undefined, 400, /limit/],
      ['GET', 'nodes?limit=x', undefined, 400, /limit/],
      ['GET', 'nodes?state=asleep', undefined, 400, /state/],
      ['GET', 'nodes?label=a%3D%00', undefined, 400, /label/],
      ['GET', 'nodes?label=a', undefined, 400, /KEY=VALUE/],
      ['GET', 'nodes?after=%00', undefined, 400, /after/],
      ['GET', 'nodes?colour=red', undefined, 400, 'querystring: unknown field "colour"'],
      ['GET', 'nodes/a%00', undefined, 400, /name/],
      ['GET', 'nodes/%FFFFFFC3', undefined, 400, /./],
      ['GET', `nodes/${'a'.repeat(400)}`, undefined, 400, /./],
      ['POST', 'reinstall', { nodes: ['a'], match: '*' }, 400, /exactly one/],
      ['POST', 'reinstall', { match: '*', dryRun: 'yes' }, 400, /dryRun/],
      ['POST', 'reinstall', { nodes: [] }, 400, /nodes/],
      ['POST', 'pending/x/approve', { name: 'a' }, 400, /profile/],
      ['PUT', 'profiles/p', { name: 'q', boot: 'local' }, 400, /named "q", and was sent as "p"/],
      ['PUT', 'profiles/p', { name: 'p', boot: 'local', x: 1 }, 400, 'profile: unknown field "x"'],
      ['POST', 'images', { schema: 'x' }, 400, 'body: unknown field "schema"'],
      ['POST', 'images', { manifest: { schema: 'x' } }, 400, /manifest/],
      ['POST', 'images', { manifest: {}, sign: 1 }, 400, /sign/],
      ['POST', 'publishers', { name: 'A', certificates: '' }, 400, /name/],
      ['POST', 'publishers', { name: 'a', certificates: 'x' }, 422, /there is no certificate/],
      ['POST', 'publishers/issue', { name: 'a', request: 'x' }, 422, /not a certificate request/],
      ['POST', 'publishers/issue', { name: 'a', request: 'x'.repeat(40_000) }, 400, /request/],
      ['GET', 'publishers/A', undefined, 400, /name/],
      [
        'POST',
        'images/n/1/tests',
        { passed: true, detail: { colour: 'red' } },
        400,
        /unknown field "colour"/,
      ],
      ['POST', 'images/n/1/tests', { passed: true, detail: { seconds: -1 } }, 400, /seconds/],
      ['POST', 'images/n/1/tests', { passed: true, detail: { as: 'stage4' } }, 400, /as/],
      ['POST', 'images/n/1/tests', { passed: true, detail: { console: ['x'.repeat(201)] } }, 400, /console/],
      ['POST', 'images/n/1/tests', { passed: true, detail: { console: Array(41).fill('') } }, 400, /console/],
      ['POST', 'images/n/1/tests', { passed: true, detail: { failure: 'x'.repeat(2501) } }, 400, /failure/],
      ['PUT', 'artifacts/sha256/abc', 'x', 400, /hex/],
      ['GET', 'events?since=yesterday', undefined, 400, /since/],
      ['GET', 'events?since=2026-99-99T00:00:00Z', undefined, 400, /not a time/],
      ['GET', 'events?kind=x', undefined, 400, /kind/],
      ['GET', 'events?after=-1', undefined, 400, /after/],
      ['GET', 'nowhere', undefined, 404, 'there is nothing at GET "/api/v1/nowhere"'],
      ['PUT', 'nodes', undefined, 404, /nothing at PUT/],
      ['HEAD', 'nodes', undefined, 404, /./],
    ]
    for (const [method, url, payload, status, detail] of table) {
      const response = await ask('admin', method, url, payload)
      t.equal(response.statusCode, status, `${method} ${url} ${JSON.stringify(payload)}`)
      if (method === 'HEAD') continue
      t.equal(response.headers['content-type'], 'application/problem+json', url)
      t.match(response.json(), { status, detail }, `${method} ${url}`)
    }
    const headers = { authorization: `Bearer ${tokens.admin}` }
    const raw = (payload: string, type: string, path = 'nodes'): Promise<LightMyRequestResponse> =>
      app.inject({
        method: 'POST',
        url: `/api/v1/${path}`,
        headers: { ...headers, 'content-type': type },
        payload,
      })
    t.equal((await raw('{"name": "a"', 'application/json')).statusCode, 400)
    t.equal((await raw('{"name":"a","__proto__":{"x":1}}', 'application/json')).statusCode, 400)
    const deep = '['.repeat(30_000) + ']'.repeat(30_000)
    for (const [field, fault] of [
      ['deep', /unknown field "deep"/],
      ['console', /console/],
      ['failure', /failure/],
      ['stages', /stages/],
    ] as const) {
      const body = `{"passed":true,"detail":{"${field}":${deep}}}`
      const answer = await raw(body, 'application/json', 'images/small/1/tests')
      t.match([answer.statusCode, answer.json()], [400, { code: 'invalid', detail: fault }], field)
    }
    t.match((await raw('{"name":"a"}', 'text/plain')).json(), { code: 'invalid', detail: /type/ })
    t.match((await raw(`{"name":"${'a'.repeat(70_000)}"}`, 'application/json')).json(), {
      status: 413,
      code: 'too-large',
    })
    t.same(
      (await world.kinds()).filter((kind) => kind !== 'operator-created'),
      [],
    )
  })

  await t.test('a node, from its making to its removal', async (t) => {
    const { send: ask, world, logged } = await listen(t, openWorld)
    const made = await ask('operator', 'POST', 'nodes', {
      name: 'a',
      macs: ['52-54-00-00-00-01'],
      labels: { rack: 'r1' },
    })
    t.equal(made.statusCode, 201)
    t.match(made.json(), {
      name: 'a',
      state: 'registered',
      macs: ['52:54:00:00:00:01'],
      secret: { issued: false },
      session: null,
      warnings: [],
    })
    t.match(made.headers, {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'content-security-policy': /default-src 'none'/,
      'x-request-id': /^[0-9a-f-]{36}$/,
    })
    t.equal((await ask('operator', 'POST', 'nodes', { name: 'a' })).json().code, 'exists')
    const other = await ask('operator', 'POST', 'nodes', { name: 'b', macs: ['525400000001'] })
    t.match(other.json(), { status: 409, code: 'exists', detail: /belongs to node "a"/ })
    t.match((await ask('operator', 'PATCH', 'nodes/a', { serial: '42', labels: { rack: null } })).json(), {
      serial: '42',
      labels: {},
    })
    t.match((await ask('viewer', 'GET', 'nodes?limit=1')).json(), {
      items: [{ name: 'a', serial: '42' }],
      next: null,
    })
    t.same((await ask('viewer', 'GET', 'nodes?label=rack%3Dr1')).json().items, [])
    t.match((await ask('viewer', 'GET', 'nodes/a/timeline')).json(), {
      node: 'a',
      session: null,
      stages: [],
      events: [{}, {}],
    })
    const { secret, siteScript } = (await ask('operator', 'POST', 'nodes/a/secret')).json()
    t.match(siteScript, secret)
    const wish = { kind: 'rotating', lifetimeSeconds: 86_400 }
    t.match((await ask('operator', 'POST', 'nodes/a/secret', wish)).json(), {
      kind: 'rotating',
      expiresAt: /Z$/,
    })
    for (const bad of [{ kind: 'odd' }, { lifetimeSeconds: 59 }, { lifetimeSeconds: '60' }, { more: 1 }, []])
      t.equal((await ask('operator', 'POST', 'nodes/a/secret', bad)).statusCode, 400, JSON.stringify(bad))
    t.equal((await ask('operator', 'DELETE', 'nodes/a/secret')).statusCode, 204)
    t.match((await ask('operator', 'POST', 'nodes/a/disable', {})).json(), { state: 'disabled' })
    t.match((await ask('operator', 'POST', 'nodes/a/disable')).json(), {
      status: 409,
      code: 'conflict',
      hint: /pawl node enable a/,
    })
    t.match((await ask('operator', 'POST', 'nodes/a/enable')).json(), { state: 'registered' })
    t.match((await ask('operator', 'POST', 'nodes/a/arm')).json(), { armed: true })
    t.equal((await ask('operator', 'DELETE', 'nodes/a')).statusCode, 204)
    const events = (await ask('viewer', 'GET', 'events?node=a')).json()
    t.equal(events.items[0].actor, 'operator:the-operator')
    t.equal(events.items[0].source, '127.0.0.1')
    t.same(
      events.items.map((event: { kind: string }) => event.kind),
      await world.kinds({ node: 'a' }),
    )
    t.match((await ask('viewer', 'GET', 'events/verify')).json(), { ok: true, chains: 2, faults: [] })
    t.match((await ask('viewer', 'GET', 'events?after=0&limit=1')).json(), {
      items: [{ seq: 1, hash: /^[0-9a-f]{64}$/ }],
      next: events.items[0].id - 4,
    })
    t.match((await ask('publisher', 'GET', 'whoami')).json(), { name: 'the-publisher', role: 'publisher' })
    t.notMatch(logged.join(''), secret)
    t.match(logged.join(''), '"route":"/api/v1/nodes/:name/secret"')
  })

  await t.test('reinstall, timeline and session as a booting node shows them', async (t) => {
    const { send: ask, world } = await listen(t, openWorld)
    await ask('operator', 'PUT', 'profiles/demo', { name: 'demo', boot: 'local' })
    await ask('operator', 'POST', 'nodes', { name: 'a', profile: 'demo' })
    t.match((await ask('operator', 'POST', 'reinstall', { nodes: ['a'] })).json(), {
      status: 409,
      code: 'conflict',
      hint: /add one/,
    })
    await world.context.storage.db.deleteFrom('nodes').execute()
    await world.context.storage.db.deleteFrom('profiles').execute()
    const other = { ...world, context: { ...world.context, templates: plainTemplates } }
    const secret = await storeDemoFleet(other)
    t.match((await ask('operator', 'POST', 'reinstall', { match: 'node*', dryRun: true })).json(), {
      applied: false,
      nodes: [{ name: 'node1', before: 'none', after: 'marked' }],
    })
    t.match((await ask('operator', 'POST', 'reinstall', { nodes: ['node1'] })).json(), { applied: true })
    const { session } = await boot(other, machineOf(secret), 'stage2')
    t.match((await ask('viewer', 'GET', 'nodes/node1')).json(), {
      state: 'booting',
      reinstall: 'serving',
      reinstallAttempts: 1,
      session: {
        id: session,
        state: 'stage2',
        stage: 'stage2',
        sequence: 'reinstall',
        endedAt: null,
        local: false,
        cause: null,
      },
    })
    const timeline = (await ask('viewer', 'GET', `nodes/node1/timeline?session=${session}`)).json()
    t.match(timeline, {
      session: { id: session, facts: { serial: 'SN1' } },
      stages: [
        { stage: 'stage1', outcome: 'done' },
        { stage: 'stage2', outcome: 'open' },
      ],
    })
    t.equal(timeline.events.at(-1).kind, 'stage2-redeemed')
    const cancelled = (await ask('operator', 'POST', 'reinstall', { nodes: ['node1'], cancel: true })).json()
    t.match(cancelled, {
      applied: true,
      nodes: [{ before: 'serving', after: 'none', warning: /is reinstalling it now/ }],
    })
  })

  await t.test('images: artifacts first, then the manifest; every digest is checked', async (t) => {
    const { send: ask, app, tokens } = await listen(t, openWorld)
    const put = (digest: string, bytes: Buffer): Promise<LightMyRequestResponse> =>
      app.inject({
        method: 'PUT',
        url: `/api/v1/artifacts/sha256/${digest}`,
        headers: { authorization: `Bearer ${tokens.publisher}`, 'content-type': 'application/octet-stream' },
        payload: bytes,
      })
    const [kernel, initramfs] = [smallKernel(), smallFile('i'.repeat(100_000))]
    const manifest = smallManifest(kernel, initramfs)
    t.match((await ask('publisher', 'POST', 'images', { manifest })).json(), {
      status: 409,
      hint: /send every artifact/,
    })
    t.match((await put(digestOf('other'), kernel.bytes)).json(), { status: 422, code: 'digest-mismatch' })
    t.equal((await ask('publisher', 'HEAD', `artifacts/sha256/${kernel.digest}`)).statusCode, 404)
    t.match(await put(kernel.digest, kernel.bytes), { statusCode: 201 })
    t.match((await put(kernel.digest, kernel.bytes)).statusCode, 200)
    t.match(
      (await put(initramfs.digest, initramfs.bytes)).json(),
      { digest: initramfs.digest, size: 100_000 },
      'larger than other bodies may be',
    )
    const head = await ask('publisher', 'HEAD', `artifacts/sha256/${kernel.digest}`)
    t.match([head.statusCode, head.headers['content-length']], [200, '1056'])
    const published = await ask('publisher', 'POST', 'images', { manifest })
    t.match(
      [published.statusCode, published.json()],
      [201, { ref: 'small@1', digest: /^[0-9a-f]{64}$/, created: true, signedBy: null }],
    )
    t.equal((await ask('publisher', 'POST', 'images', { manifest })).statusCode, 200)
    const other = { manifest: { ...manifest, kernelArguments: 'x' } }
    t.match((await ask('publisher', 'POST', 'images', other)).json(), {
      status: 409,
      code: 'exists',
    })
    const shown = (await ask('viewer', 'GET', 'images/small/1')).json()
    t.same(shown.manifest, manifest)
    t.same((await ask('viewer', 'GET', 'images')).json(), { items: [shown], next: null })
  })

  await t.test('profiles hide their secrets; machines are approved by their code', async (t) => {
    const { send: ask, world } = await listen(t, openWorld)
    const settings = { endpoint: 'k8s:6443', token: 'abcdef.0123456789abcdef', caCertHash: `sha256:${hex}` }
    const profile = { name: 'p', boot: { stage2: 's@1', stage3: 'f@1', join: { kind: 'kubeadm', settings } } }
    const applied = await ask('operator', 'PUT', 'profiles/p', profile)
    t.match(applied.json(), { name: 'p', revision: 1, warnings: [/s@1/, /f@1/] })
    const shown = (await ask('viewer', 'GET', 'profiles/p')).json()
    t.equal(shown.profile.boot.join.settings.token, '***')
    t.same((await ask('viewer', 'GET', 'profiles')).json(), { items: [shown], next: null })
    t.match((await ask('operator', 'PUT', 'profiles/p', shown.profile)).json(), { revision: 1 })
    const fields = { mac: '52-54-00-12-34-56' }
    await enrol(world.context, { host: undefined, source: '192.0.2.77', request: 'enrol', fields })
    const [machine] = (await ask('viewer', 'GET', 'pending')).json().items
    t.match(machine, {
      code: /^[0-9a-z]{5}-[0-9a-z]{5}$/,
      source: '192.0.2.77',
      facts: { mac: '52:54:00:12:34:56' },
    })
    const approved = await ask('operator', 'POST', `pending/${machine.code}/approve`, {
      name: 'n',
      profile: 'p',
    })
    t.match(
      [approved.statusCode, approved.json()],
      [201, { name: 'n', profile: 'p', warnings: [/pawl node secret n/] }],
    )
    await enrol(world.context, { host: undefined, source: '192.0.2.78', request: 'enrol', fields })
    const [second] = (await ask('viewer', 'GET', 'pending')).json().items
    t.equal((await ask('operator', 'POST', `pending/${second.code}/reject`)).statusCode, 204)
  })

  await t.test(
    'health says ok and no more; an error of ours is bland outside and whole in the log',
    async (t) => {
      const { send: ask, app, world, logged } = await listen(t, openWorld)
      for (const path of ['/healthz', '/readyz']) {
        const response = await send(app, undefined, 'GET', path)
        t.match([response.statusCode, response.body], [200, 'ok'])
      }
      const { db } = world.context.storage
      await db.schema.alterTable('pending_machines').renameTo('elsewhere').execute()
      const response = await ask('viewer', 'GET', 'pending')
      const problem = response.json()
      t.same(problem, {
        title: 'Internal Server Error',
        status: 500,
        code: 'internal',
        detail: 'an internal error; the log has its cause under the request id',
        requestId: response.headers['x-request-id'],
      })
      t.match(logged.join(''), new RegExp(`pending_machines.*${problem.requestId}`))
      await db.schema.alterTable('elsewhere').renameTo('pending_machines').execute()
    },
  )
})
