import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import pino from 'pino'
import t, { type Test } from 'tap'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { loadTemplates } from '../../src/templates/load.ts'
import { demoProfile, nodeRow, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { boot, facts, machineOf } from '../helpers/machine.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

const templates = loadTemplates([join(import.meta.dirname, '../../ipxe-templates')])
const limits = {
  maxBodyBytes: 65_536,
  requestTimeoutSeconds: 15,
  idleTimeoutSeconds: 15,
  maxConnections: 100,
}

interface Listener {
  readonly world: World
  readonly app: FastifyInstance
  readonly secret: string
  readonly lines: string[]
}

async function listen(
  t: Test,
  openWorld: OpenWorld,
  options: { plain?: boolean; trustedProxies?: string[] } = {},
): Promise<Listener> {
  const world = await openWorld(options.plain === true ? {} : { templates })
  const secret = await storeDemoFleet(world)
  const folder = mkdtempSync(join(tmpdir(), 'pawl-artifacts-'))
  const lines: string[] = []
  const app = buildBootListener(openStory(world.context), {
    tls: {},
    log: pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) }),
    limits,
    trustedProxies: options.trustedProxies ?? [],
    artifacts: openArtifactCache(await openArtifactStore(folder)),
  })
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { world, app, secret, lines }
}

/** All that a client can see of an answer, but for the time. */
function seen(answer: LightMyRequestResponse): string {
  const { date, ...headers } = answer.headers
  return JSON.stringify([answer.statusCode, headers, answer.body])
}

const query = (fields: Record<string, string>): string => new URLSearchParams(fields).toString()
const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` })

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('every refusal looks alike, unknown host included', async (t) => {
    const { world, app, secret } = await listen(t, openWorld, { plain: true })
    await storeNode(world, { name: 'off', state: 'disabled' })
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'stage2')
    const key = { 'idempotency-key': 'k'.repeat(22) }
    const post = (url: string, token: string, more = {}): object => ({
      method: 'POST',
      url,
      headers: { ...bearer(token), 'content-type': 'application/x-www-form-urlencoded', ...more },
    })
    const never = 'A'.repeat(44)
    const requests: [string, object][] = [
      ['unknown host', { method: 'GET', url: '/v1/boot/nobody/stage1.ipxe' }],
      ['no secret', { method: 'GET', url: '/v1/boot/node1/stage1.ipxe' }],
      ['wrong secret', { method: 'GET', url: `/v1/boot/node1/stage1.ipxe?secret=${never}` }],
      ['disabled', { method: 'POST', url: `/v1/boot/off/stage1.ipxe?secret=${never}` }],
      [
        'two machines',
        {
          method: 'GET',
          url: `/v1/boot/node1/stage1.ipxe?secret=${secret}&uuid=99999999-2222-3333-4444-555555555555`,
        },
      ],
      ['stage1.json', { method: 'POST', url: '/v1/boot/node1/stage1.json' }],
      ['no token', { method: 'POST', url: '/v1/boot/node1/stage3' }],
      ['unknown token', post('/v1/boot/node1/stage3', never)],
      ['malformed token', post('/v1/boot/node1/stage3', 'x')],
      ['spent token', post('/v1/boot/node1/stage2', learnt.stage2)],
      ['other key', post('/v1/boot/node1/stage2', learnt.stage2, key)],
      ['wrong order', post('/v1/boot/node1/join', learnt.stage3)],
      ['foreign token', post('/v1/boot/off/stage3', learnt.stage3)],
      ['unknown host with a token', post('/v1/boot/nobody/stage3', learnt.stage3)],
      ['success too early', { ...post('/v1/boot/node1/report', learnt.report), payload: 'message=success' }],
      [
        'a new secret that was given to nobody',
        { ...post('/v1/boot/node1/secret', learnt.report), payload: 'id=x&written=true' },
      ],
      ['a new secret without a token', { method: 'POST', url: '/v1/boot/node1/secret?id=x&written=true' }],
      ['handover twice', { method: 'GET', url: `/v1/boot/node1/handover?k=${learnt.handoverToken}` }],
      ['download without a capability', { method: 'GET', url: '/v1/boot/node1/artifacts/kernel' }],
      [
        'download of a stage that is over',
        { method: 'GET', url: `/v1/boot/node1/artifacts/kernel?c=${never}` },
      ],
      [
        'a role that the image has not',
        { method: 'GET', url: `/v1/boot/node1/artifacts/nothing?c=${learnt.capability}` },
      ],
      ['a native token in a path', { method: 'POST', url: `/v1/boot/node1/${learnt.stage3}/stage3` }],
    ]
    const answers = new Map<string, string[]>()
    for (const [what, request] of requests) {
      const text = seen(await app.inject(request))
      answers.set(text, [...(answers.get(text) ?? []), what])
    }
    t.same([...answers.values()], [requests.map(([what]) => what)], 'one answer for all')
    t.match([...answers.keys()][0], /^\[403,.*"refused\\n"\]$/)
    const causes = (await world.events({ kind: 'refused' })).map((event) => event.detail.cause)
    t.equal(causes.length, requests.length, 'each has its cause on the record')
    t.same(
      await world.context.storage.db.selectFrom('sessions').select('stage').execute(),
      [{ stage: 'stage2' }],
      'nothing moved',
    )
  })

  await t.test('HEAD opens nothing', async (t) => {
    const { world, app, secret } = await listen(t, openWorld, { plain: true })
    const learnt = await boot(world, machineOf(secret), 'handover')
    const requests = [
      `/v1/boot/node1/stage1.ipxe?secret=${secret}`,
      `/v1/boot/stage1.ipxe?secret=${secret}`,
      '/v1/boot/node1/stage2',
      `/v1/boot/node1/handover?k=${learnt.handoverToken}`,
      '/v1/boot/node1/report',
      '/v1/boot/node1/secret',
    ]
    for (const url of requests) {
      const answer = await app.inject({ method: 'HEAD', url, headers: bearer(learnt.stage2) })
      t.equal(answer.statusCode, 404, url)
    }
    t.equal((await nodeRow(world)).state, 'booting')
    t.same(await world.kinds({ session: learnt.session }), ['session-opened', 'handover-opened'])
  })

  await t.test('what is malformed is said, is on the record of the node, and never a 500', async (t) => {
    const { world, app, secret } = await listen(t, openWorld)
    const url = `/v1/boot/node1/stage1.ipxe?secret=${secret}`
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const table: [string, object, number][] = [
      ['a fact as iPXE sends bytes above 0x7f', { method: 'GET', url: `${url}&product=caf%FFFFFFC3` }, 400],
      ['a fact that is not UTF-8', { method: 'GET', url: `${url}&product=%C3` }, 400],
      ['a percent sign alone', { method: 'POST', url, headers: form, payload: 'serial=%&mac=%zz' }, 200],
      ['a newline in a fact', { method: 'GET', url: `${url}&serial=a%0Aboot` }, 400],
      ['a fact given twice', { method: 'GET', url: `${url}&serial=a&serial=b` }, 400],
      ['a long fact', { method: 'GET', url: `${url}&serial=${'a'.repeat(257)}` }, 400],
      ['a body of 10 MB', { method: 'POST', url, headers: form, payload: 'a'.repeat(10_000_000) }, 413],
      [
        'a body of another type',
        { method: 'POST', url, headers: { 'content-type': 'text/xml' }, payload: '<a/>' },
        400,
      ],
      [
        'a broken multipart form',
        {
          method: 'POST',
          url,
          headers: { 'content-type': 'multipart/form-data; boundary=x' },
          payload: 'nonsense',
        },
        400,
      ],
      [
        'JSON that is none',
        { method: 'POST', url, headers: { 'content-type': 'application/json' }, payload: '{' },
        400,
      ],
      [
        'JSON that is a list',
        { method: 'POST', url, headers: { 'content-type': 'application/json' }, payload: '[]' },
        400,
      ],
      [
        'a report without a message',
        { method: 'POST', url: '/v1/boot/node1/report', headers: bearer('A'.repeat(44)) },
        400,
      ],
      [
        'a report with an SSH host key that is none',
        {
          method: 'POST',
          url: '/v1/boot/node1/report',
          headers: { ...form, ...bearer('A'.repeat(44)) },
          payload: 'message=success&ssh_host_keys=ssh-rsa%20AAAA',
        },
        400,
      ],
      [
        'a report with a key of WireGuard that is none',
        {
          method: 'POST',
          url: '/v1/boot/node1/report',
          headers: { ...form, ...bearer('A'.repeat(44)) },
          payload: 'message=success&wireguard_public_key=AAAA',
        },
        400,
      ],
      ['a new secret without a name', { method: 'POST', url: '/v1/boot/node1/secret?written=true' }, 400],
      [
        'a new secret that is neither',
        { method: 'POST', url: '/v1/boot/node1/secret?id=x&written=perhaps' },
        400,
      ],
      ['a path that is none', { method: 'GET', url: '/v1/boot/node1/stage4' }, 404],
      ['a path with a bad escape', { method: 'GET', url: '/v1/boot/%zz/stage1.ipxe' }, 400],
      [
        'a host name of 400 characters',
        { method: 'GET', url: `/v1/boot/${'a'.repeat(400)}/stage1.ipxe` },
        414,
      ],
    ]
    for (const [what, request, status] of table) {
      const answer = await app.inject(request)
      t.equal(answer.statusCode, status, `${what}: ${answer.body.slice(0, 80)}`)
    }
    const recorded = (await world.events({ node: 'node1', kind: 'refused' })).filter(
      (e) => e.detail.cause === 'malformed',
    )
    t.ok(recorded.length >= 10, `${recorded.length} on the record`)
  })

  await t.test('a path that no route is looked up for is not repeated', async (t) => {
    const { app } = await listen(t, openWorld)
    for (const url of [`/v1/boot/node1/${'a'.repeat(400)}/ignition`, '/v1/boot/%zz/hunter2/ignition']) {
      const { statusCode, headers, body } = await app.inject({ url })
      t.match([statusCode, body], [url.includes('%') ? 400 : 414, /^the request is malformed\n$/])
      t.match(headers, { 'content-type': 'text/plain', 'cache-control': 'no-store' })
    }
  })

  await t.test('a value that a script cannot carry refuses the boot and spends nothing', async (t) => {
    const { world, app, secret } = await listen(t, openWorld)
    await storeProfile(world, { ...demoProfile, kernelArguments: 'x'.repeat(1020) })
    const long = 'y'.repeat(1040)
    await world.context.storage.db
      .updateTable('images')
      .set({ manifest: (await manifest(world)).replace('console=ttyS0', long) })
      .where('name', '=', 'small')
      .execute()
    const answer = await app.inject({
      method: 'GET',
      url: `/v1/boot/node1/stage1.ipxe?${query({ ...facts, secret })}`,
    })
    t.equal(answer.statusCode, 403)
    t.match((await world.events({ kind: 'refused' })).at(-1)?.detail, { cause: 'does-not-fit' })
    t.same(await world.context.storage.db.selectFrom('tokens').select('id').execute(), [])
  })

  await t.test(
    'a source that is no address is refused like any other, and IPv4 has one spelling',
    async (t) => {
      const { world, app } = await listen(t, openWorld, { trustedProxies: ['127.0.0.1'] })
      await storeProfile(world, { ...demoProfile, evidence: ['address'], acceptAddressOnly: true })
      await storeNode(world, { name: 'placed', addresses: [{ address: '192.0.2.1', prefixLength: 32 }] })
      for (const [forwarded, status, source] of [
        ['nonsense', 403, 'unknown'],
        ["1.2.3.4'; drop table nodes", 403, 'unknown'],
        ['::ffff:192.0.2.1', 200, '192.0.2.1'],
      ] as const) {
        const headers = { 'x-forwarded-for': forwarded }
        const answer = await app.inject({
          method: 'GET',
          url: '/v1/boot/placed/stage1.ipxe?platform=efi',
          headers,
        })
        t.equal(answer.statusCode, status, forwarded)
        t.equal((await world.events({ node: 'placed' })).at(-1)?.source, source)
      }
    },
  )

  await t.test('a plus sign in a fact stays one: iPXE does not escape it', async (t) => {
    const { world, app, secret } = await listen(t, openWorld)
    await world.context.storage.db
      .updateTable('nodes')
      .set({ serial: 'a+b' })
      .where('name', '=', 'node1')
      .execute()
    const url = `/v1/boot/node1/stage1.ipxe?secret=${secret}&serial=a+b&version=1.21.1+git`
    t.equal((await app.inject({ method: 'GET', url })).statusCode, 200)
    t.match((await world.events({ kind: 'session-opened' }))[0]?.detail.facts, { version: '1.21.1+git' })
  })

  await t.test('X-Forwarded-For is believed from listed proxies only', async (t) => {
    for (const [trustedProxies, source] of [
      [[], '127.0.0.1'],
      [['127.0.0.1'], '192.0.2.77'],
      [['198.51.100.0/24'], '127.0.0.1'],
    ] as const) {
      const { world, app } = await listen(t, openWorld, { trustedProxies: [...trustedProxies] })
      await app.inject({
        method: 'GET',
        url: '/v1/boot/node1/stage1.ipxe',
        headers: { 'x-forwarded-for': '192.0.2.77' },
      })
      t.equal((await world.events({ kind: 'refused' }))[0]?.source, source)
    }
  })

  await t.test('floods of refusals are listed ten a minute for each source, then counted', async (t) => {
    const { world, app } = await listen(t, openWorld, { trustedProxies: ['127.0.0.1'] })
    const ask = (from: string, host = 'node1'): Promise<unknown> =>
      app.inject({ method: 'GET', url: `/v1/boot/${host}/stage1.ipxe`, headers: { 'x-forwarded-for': from } })
    for (let i = 0; i < 50; i++) await ask('192.0.2.1')
    for (let i = 0; i < 50; i++) await ask(`2001:db8::${i.toString(16)}`)
    t.equal((await world.kinds({ kind: 'refused' })).length, 20, 'ten for each /32 and each /64')
    for (let i = 0; i < 300; i++) await ask(`198.51.100.${i % 250}`)
    t.equal(
      (await world.kinds({ node: 'node1', kind: 'refused' })).length,
      100,
      'a hundred a minute for one node',
    )
    for (let i = 0; i < 300; i++) await ask(`198.51.100.${i % 250}`, `nobody${i}`)
    t.equal(
      (await world.events({ kind: 'refused' })).filter((e) => e.chain === 'unknown').length,
      100,
      'and for all unknown hosts',
    )
    world.clock.advance(61)
    const counted = (await world.events({ kind: 'refusals-counted' })).map((e) => e.detail.count as number)
    t.equal(
      counted.reduce((sum, count) => sum + count, 0),
      40 + 40 + 220 + 200,
      'every one is counted',
    )
  })

  await t.test('with the disk nearly full refusals are no longer written, and boots still are', async (t) => {
    let room = false
    const world = await openWorld({ hasRoom: async () => room })
    const secret = await storeDemoFleet(world)
    const refused = machineOf('', { fields: facts })
    await t.rejects(boot(world, refused, 'stage1'), { code: 'refused' })
    await boot(world, machineOf(secret), 'ready')
    t.same(await world.kinds({ kind: 'refused' }), [])
    t.equal(world.context.refusals.dropped(), 1, 'what was not written is counted')
    t.match(await nodeRow(world), { state: 'ready' })
    room = true
    await t.rejects(boot(world, refused, 'stage1'), { code: 'refused' })
    t.same(await world.kinds({ kind: 'refused' }), ['refused'])
  })

  await t.test('nothing that is logged holds a token or a secret', async (t) => {
    const { world, app, secret, lines } = await listen(t, openWorld)
    const script = await app.inject({
      method: 'GET',
      url: `/v1/boot/node1/stage1.ipxe?${query({ ...facts, secret })}`,
    })
    const k = /handover\?k=([\w-]{44})/.exec(script.body)?.[1] ?? ''
    const c = /kernel\?c=([\w-]{44})/.exec(script.body)?.[1] ?? ''
    const handover = (await app.inject({ method: 'GET', url: `/v1/boot/node1/handover?k=${k}` })).json()
    await app.inject({
      method: 'POST',
      url: '/v1/boot/node1/stage2',
      headers: bearer(handover.tokens.stage2),
    })
    await app.inject({ method: 'POST', url: `/v1/boot/node1/${handover.tokens.report}/stage2` })
    await app.inject({ method: 'GET', url: `/v1/boot/node1/artifacts/kernel?c=${c}` })
    const log = lines.join('') + JSON.stringify(await world.events())
    t.ok(lines.length >= 5)
    for (const [name, value] of Object.entries<string>({ secret, k, c, ...handover.tokens })) {
      t.ok(value.length === 44 && !log.includes(value.slice(12)), `${name} is not in it`)
    }
  })

  await t.test(
    'a machine without a name gets a code, and one whose facts are known its script',
    async (t) => {
      const { world, app, secret } = await listen(t, openWorld)
      const unknown = await app.inject({
        method: 'GET',
        url: `/v1/boot/stage1.ipxe?${query({ ...facts, product: 'Power Edge; reboot' })}`,
      })
      t.equal(unknown.statusCode, 200)
      t.match(unknown.body, /^#!ipxe\n[\s\S]*pawl node approve [0-9a-z]{5}-[0-9a-z]{5}/)
      t.notMatch(unknown.body, /; reboot/, 'facts are shown harmlessly')
      await world.context.storage.db
        .updateTable('nodes')
        .set({ serial: 'SN1' })
        .where('name', '=', 'node1')
        .execute()
      const known = await app.inject({
        method: 'POST',
        url: '/v1/boot/stage1.ipxe',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        payload: query({ ...facts, secret }),
      })
      t.match(known.body, /^#!ipxe\n[\s\S]*boot\/node1\/handover/)
      const site = await app.inject({ method: 'GET', url: '/v1/boot/autoexec.ipxe' })
      t.match(site.body, /^#!ipxe\n[\s\S]*\/v1\/boot\/stage1\.ipxe/)
      t.notMatch(site.body, /secret=/)
    },
  )

  await t.test('stage 1 in JSON gives a Linux that boots by kexec the same', async (t) => {
    const { app, secret } = await listen(t, openWorld)
    const answer = await app.inject({
      method: 'POST',
      url: `/v1/boot/node1/stage1.json?${query({ ...facts, secret })}`,
    })
    t.match(answer.json(), {
      stage: 'stage1',
      image: 'small@1',
      kernel: { url: 'https://boot.example.test:8443/v1/boot/node1/artifacts/kernel', size: 1001 },
      args: 'console=ttyS0 quiet',
      handover: { host: 'node1', tokens: { stage2: /^[\w-]{44}$/, report: /^[\w-]{44}$/ } },
    })
  })
})

async function manifest(world: World): Promise<string> {
  const row = await world.context.storage.db
    .selectFrom('images')
    .select('manifest')
    .where('name', '=', 'small')
    .executeTakeFirstOrThrow()
  return row.manifest
}
