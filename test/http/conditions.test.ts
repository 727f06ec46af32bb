import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'
import { openApiOf } from '../../src/http/openapi.ts'
import { updateNode } from '../../src/storage/nodes.ts'
import type { Role } from '../../src/storage/tables.ts'
import { demoProfile, publishImage, storeDemoFleet } from '../helpers/fleet.ts'
import { type Listener, listen, send } from '../helpers/operator-listener.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'

type Headers = Record<string, string>
type Asking = (
  role: Role,
  method: string,
  url: string,
  body?: unknown,
  headers?: Headers,
) => Promise<LightMyRequestResponse>

/** A listener over a fleet of one node, one profile and two channels' images. */
async function open(
  t: Parameters<typeof listen>[0],
  openWorld: OpenWorld,
): Promise<{ here: Listener; ask: Asking }> {
  // A CA that signs whatever it is given: what a change depends on is looked at behind it.
  const here = await listen(t, openWorld, {
    issueNodeCertificate: async ({ notAfter }) => ({
      certificate: '',
      fingerprint: '0'.repeat(64),
      notAfter,
    }),
  })
  await storeDemoFleet(here.world)
  for (const version of ['2', '3']) await publishImage(here.world, `small@${version}`, 'c', false)
  const ask: Asking = (role, method, url, body, headers) =>
    send(here.app, here.tokens[role], method, url, body, headers)
  return { here, ask }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses what is no precondition, and one that would mean nothing', async (t) => {
    const { ask } = await open(t, openWorld)
    const table: [Headers, number, RegExp][] = [
      [{ 'if-match': 'r1' }, 400, /not \* or a list of tags in quotes/],
      [{ 'if-match': '"r1' }, 400, /not \* or a list/],
      [{ 'if-match': '' }, 400, /not \* or a list/],
      [{ 'if-match': '"a b"' }, 400, /not \* or a list/],
      [{ 'if-match': '"r1" "r2"' }, 400, /not \* or a list/],
      [{ 'if-match': `"${'a'.repeat(101)}"` }, 400, /not \* or a list/],
      [{ 'if-match': Array(21).fill('"r1"').join(',') }, 400, /more than 20 tags/],
      [{ 'if-match': 'W/"r1"' }, 400, /weak tag/],
      [{ 'if-match': '*', 'if-none-match': '*' }, 400, /exclude each other/],
      [{ 'if-none-match': '*' }, 400, /If-None-Match with a change/],
      [{ 'if-none-match': '"r1"' }, 400, /If-None-Match with a change/],
      [{ 'if-match': '"another-server"' }, 412, /is at revision 1/],
      [{ 'if-match': '"r2"' }, 412, /node "node1" is at revision 1, not 2$/],
      [{ 'if-match': '"r999999999"' }, 412, /is at revision 1, not 999999999$/],
    ]
    for (const [headers, status, detail] of table) {
      const answer = await ask('operator', 'PATCH', 'nodes/node1', { serial: 'X' }, headers)
      t.equal(answer.statusCode, status, JSON.stringify(headers))
      t.match(answer.json(), { code: status === 412 ? 'precondition-failed' : 'invalid', detail })
    }
    const other = await ask('operator', 'POST', 'nodes', { name: 'a' }, { 'if-match': '"r1"' })
    t.match(other.json(), { status: 400, detail: /has no ETag/ })
    t.match((await ask('viewer', 'GET', 'nodes/node1')).json(), { serial: null, revision: 1 })
  })

  await t.test('the second of two who change a node is told who changed what', async (t) => {
    const { ask, here } = await open(t, openWorld)
    const seen = (await ask('viewer', 'GET', 'nodes/node1')).headers.etag as string
    t.match(seen, /^"r1\.[0-9a-f]{16}"$/)
    const first = await ask(
      'operator',
      'PATCH',
      'nodes/node1',
      { serial: 'A1', labels: { rack: '7' } },
      { 'if-match': seen },
    )
    t.equal(first.statusCode, 200)
    t.equal(first.headers.etag, '"r2"')
    t.equal(first.json().revision, 2)
    const at = here.world.clock.now().toISOString()
    const second = await ask('admin', 'PATCH', 'nodes/node1', { serial: 'B2' }, { 'if-match': seen })
    t.equal(second.statusCode, 412)
    t.strictSame(second.json(), {
      title: 'Precondition Failed',
      status: 412,
      detail: `node "node1" is at revision 2, not 1: operator:the-operator at ${at}: node-changed (labels {} -> {"rack":"7"}, serial null -> "A1")`,
      code: 'precondition-failed',
      hint: 'look at it as it is now, and decide again',
    })
    t.equal((await ask('viewer', 'GET', 'nodes/node1')).json().serial, 'A1')
    for (const tag of ['"r2"', '"r2.0123456789abcdef"', '*', '"r9", "r2"'])
      t.equal(
        (await ask('admin', 'PATCH', 'nodes/node1', { serial: 'A1' }, { 'if-match': tag })).statusCode,
        200,
        tag,
      )
  })

  await t.test('of many changes the last five are told', async (t) => {
    const { ask } = await open(t, openWorld)
    for (const serial of ['1', '2', '3', '4', '5', '6', '7'])
      await ask('operator', 'PATCH', 'nodes/node1', { serial })
    const { detail } = (
      await ask('operator', 'DELETE', 'nodes/node1', undefined, { 'if-match': '"r1"' })
    ).json()
    t.match(
      detail,
      /^node "node1" is at revision 8, not 1: after 2 others, operator:the-operator at \S+: node-changed \(serial "2" -> "3"\);/,
    )
    t.match(detail, /serial "6" -> "7"\)$/)
  })

  await t.test(
    'each change by an operator counts a revision, what boots change does not, nor does nothing',
    async (t) => {
      const { ask, here } = await open(t, openWorld)
      const steps: [string, string, unknown, number][] = [
        ['PATCH', 'nodes/node1', { serial: 'A' }, 2],
        ['PATCH', 'nodes/node1', { serial: 'A' }, 2],
        ['POST', 'nodes/node1/disable', undefined, 3],
        ['POST', 'nodes/node1/disable', undefined, 3],
        ['POST', 'nodes/node1/enable', undefined, 4],
        ['POST', 'nodes/node1/arm', undefined, 5],
        ['POST', 'nodes/node1/arm', undefined, 5],
        ['POST', 'nodes/node1/secret', undefined, 6],
        ['DELETE', 'nodes/node1/secret', undefined, 7],
      ]
      for (const [method, url, body, revision] of steps) {
        await ask('operator', method, url, body)
        t.equal((await ask('viewer', 'GET', 'nodes/node1')).json().revision, revision, `${method} ${url}`)
      }
      const before = (await ask('viewer', 'GET', 'nodes/node1')).headers.etag as string
      t.equal(
        (await ask('viewer', 'GET', 'nodes/node1', undefined, { 'if-none-match': before })).statusCode,
        304,
      )
      await here.world.context.storage.transaction((tx) => updateNode(tx, 'id-node1', { state: 'ready' }))
      const after = await ask('viewer', 'GET', 'nodes/node1', undefined, { 'if-none-match': before })
      t.match(
        after.json(),
        { state: 'ready', revision: 7 },
        'a boot makes another answer, of the same revision',
      )
      t.equal(
        (await ask('operator', 'PATCH', 'nodes/node1', { serial: 'B' }, { 'if-match': before })).statusCode,
        200,
      )
    },
  )

  await t.test('an answer that has not changed is 304, with nothing in it', async (t) => {
    const { ask } = await open(t, openWorld)
    for (const url of ['nodes/node1', 'profiles/demo']) {
      const { headers } = await ask('viewer', 'GET', url)
      const tag = headers.etag as string
      for (const given of [tag, `W/${tag}`, `"x", ${tag}`, '*']) {
        const again = await ask('viewer', 'GET', url, undefined, { 'if-none-match': given })
        t.equal(again.statusCode, 304, `${url}: ${given}`)
        t.equal(again.body, '')
        t.equal(again.headers.etag, tag)
        t.equal(again.headers['content-type'], undefined)
      }
      t.equal((await ask('viewer', 'GET', url, undefined, { 'if-none-match': '"r1"' })).statusCode, 200)
    }
    t.equal((await ask('viewer', 'GET', 'nodes/gone', undefined, { 'if-none-match': '*' })).statusCode, 404)
  })

  await t.test('a profile: made once, changed by whom has seen it, and no secret told', async (t) => {
    const { ask } = await open(t, openWorld)
    const profile = (quiet: string, token?: string): object => ({
      ...demoProfile,
      name: 'web',
      acceptUnsigned: true,
      kernelArguments: quiet,
      boot: {
        ...demoProfile.boot,
        join: {
          kind: 'kubeadm',
          settings: { endpoint: 'k.example.test:6443', caCertHash: `sha256:${'a'.repeat(64)}`, token },
        },
      },
    })
    const put = (body: unknown, headers?: Headers) => ask('admin', 'PUT', 'profiles/web', body, headers)
    t.equal((await put(profile('a', 'abcdef.0123456789abcdef'), { 'if-match': '*' })).statusCode, 412)
    t.match((await put(profile('a', 'abcdef.0123456789abcdef'), { 'if-match': '"r1"' })).json(), {
      detail: 'profile "web" does not exist',
    })
    const none = { 'if-none-match': '*' }
    const made = await put(profile('a', 'abcdef.0123456789abcdef'), none)
    t.equal(made.statusCode, 200, made.body)
    t.equal(made.headers.etag, '"r1"')
    t.match((await put(profile('b', 'abcdef.0123456789abcdef'), none)).json(), {
      status: 412,
      detail: 'profile "web" exists, at revision 1',
    })
    t.equal((await put(profile('b', 'fedcba.fedcba9876543210'), { 'if-match': '"r1"' })).statusCode, 200)
    const late = await put(profile('c', 'abcdef.0123456789abcdef'), { 'if-match': '"r1"' })
    t.match(late.json(), {
      status: 412,
      detail: /kernelArguments "a" -> "b", .*join\.settings\.token changed\)$/,
    })
    t.notMatch(late.body, /fedcba|abcdef\./)
  })

  await t.test('a channel: its moves and its rules', async (t) => {
    const { ask, here } = await open(t, openWorld)
    const at = here.world.clock.now().toISOString()
    t.equal(
      (await ask('admin', 'PUT', 'channels/small/stable', { version: '1' }, { 'if-match': '*' })).statusCode,
      412,
    )
    t.equal((await ask('admin', 'PUT', 'channels/small/stable', { version: '1' })).json().revision, 2)
    t.equal(
      (
        await ask(
          'admin',
          'PUT',
          'channels/small/stable/rules',
          { requireTest: true },
          { 'if-match': '"r2"' },
        )
      ).json().revision,
      3,
    )
    for (const [method, url, body] of [
      ['PUT', 'channels/small/stable', { version: '2' }],
      ['PUT', 'channels/small/stable/rules', { twoPerson: true }],
      ['POST', 'channels/small/stable/rollback', {}],
    ] as const) {
      const late = await ask('admin', method, url, body, { 'if-match': '"r2"' })
      t.match(late.json(), {
        status: 412,
        detail: `channel "small/stable" is at revision 3, not 2: operator:the-admin at ${at}: channel-protected (requireTest false -> true)`,
      })
    }
    t.match(
      (await ask('admin', 'PUT', 'channels/small/stable', { version: '2' }, { 'if-match': '"r1"' })).json(),
      {
        detail: /channel-moved \(version null -> "1"\); /,
      },
    )
  })

  await t.test('an operator token: revoked by whom has seen it as it is', async (t) => {
    const { ask } = await open(t, openWorld)
    const { id } = (await ask('admin', 'POST', 'operator-tokens', { name: 'ci', role: 'viewer' })).json()
    const shown = await ask('admin', 'GET', `operator-tokens/${id}`)
    t.match(shown.json(), { id, name: 'ci', revision: 1 })
    t.equal(
      (
        await ask('admin', 'DELETE', `operator-tokens/${id}`, undefined, {
          'if-match': shown.headers.etag as string,
        })
      ).statusCode,
      200,
    )
    t.match(
      (await ask('admin', 'DELETE', `operator-tokens/${id}`, undefined, { 'if-match': '"r1"' })).json(),
      {
        detail: /^operator token ".*" is at revision 2, not 1: operator:the-admin at \S+: operator-revoked$/,
      },
    )
  })

  await t.test('of twenty who change one thing on the same tag, exactly one does', async (t) => {
    const { ask } = await open(t, openWorld)
    await ask('admin', 'PUT', 'channels/small/stable', { version: '1' })
    const races: [string, string, (n: number) => unknown, Headers][] = [
      ['PATCH', 'nodes/node1', (n) => ({ serial: `S${n}` }), { 'if-match': '"r1"' }],
      [
        'PUT',
        'profiles/demo',
        (n) => ({ ...demoProfile, acceptUnsigned: true, kernelArguments: `n=${n}` }),
        { 'if-match': '"r1"' },
      ],
      [
        'PUT',
        'profiles/new',
        (n) => ({ ...demoProfile, name: 'new', acceptUnsigned: true, kernelArguments: `n=${n}` }),
        { 'if-none-match': '*' },
      ],
      ['PUT', 'channels/small/stable', (n) => ({ version: n % 2 === 0 ? '2' : '3' }), { 'if-match': '"r2"' }],
    ]
    for (const [method, url, body, headers] of races) {
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, n) => ask('admin', method, url, body(n), headers)),
      )
      const statuses = answers.map(({ statusCode }) => statusCode)
      t.equal(statuses.filter((status) => status === 200).length, 1, `${method} ${url}: ${statuses}`)
      // Two that make one thing at once may meet at its name.
      const allowed = 'if-none-match' in headers ? [200, 409, 412] : [200, 412]
      t.ok(
        statuses.every((status) => allowed.includes(status)),
        `${method} ${url}: ${statuses}`,
      )
    }
  })

  await t.test('every route that says it takes If-Match does', async (t) => {
    const { ask, here } = await open(t, openWorld)
    await ask('admin', 'PUT', 'channels/small/stable', { version: '1' })
    await ask('admin', 'PUT', 'channels/small/stable', { version: '2' })
    await ask('admin', 'POST', 'webhooks', {
      name: 'hook',
      url: 'https://receiver.example.test/',
      kinds: ['node-added'],
    })
    const extension = { url: 'https://receiver.example.test/' }
    await ask('admin', 'PUT', 'extensions/allocate', extension)
    const { id } = (await ask('admin', 'POST', 'operator-tokens', { name: 'ci', role: 'viewer' })).json()
    const at: Readonly<Record<string, string>> = {
      nodes: 'node1',
      profiles: 'demo',
      'operator-tokens': id,
      webhooks: 'hook',
      extensions: 'allocate',
    }
    const bodies: Readonly<Record<string, unknown>> = {
      changeNode: { serial: 'X' },
      issueNodeCertificate: { request: 'of a key' },
      applyProfile: { ...demoProfile, acceptUnsigned: true, kernelArguments: 'x' },
      moveChannel: { version: '3' },
      rollBackChannel: {},
      setChannelRules: { twoPerson: true },
      applyExtension: { ...extension, timeoutSeconds: 5 },
      updateWebhook: { kinds: ['node-removed'] },
    }
    let tried = 0
    for (const [path, operations] of Object.entries(openApiOf(here.app).paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        const takes = operation.parameters?.some(({ $ref }) => $ref === '#/components/parameters/IfMatch')
        if (takes !== true) continue
        const url = path
          .replace('{name}/{channel}', 'small/stable')
          .replace('{fingerprint}', '0'.repeat(64))
          .replace(/\/([a-z-]+)\/\{(?:name|id|operation)\}/, (_all, kind) => `/${kind}/${at[kind]}`)
        const body = bodies[operation.operationId ?? '']
        const answer = await ask('admin', method.toUpperCase(), url, body, { 'if-match': '"r77"' })
        t.match(answer.json(), { status: 412, code: 'precondition-failed' }, `${method} ${url}`)
        tried += 1
      }
    }
    t.ok(tried >= 12, `${tried} routes`)
  })
})
