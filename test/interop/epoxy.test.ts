import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { runEpoxyStage } from '../helpers/epoxy-client.ts'
import { nodeRow, storeNode, storeProfile } from '../helpers/fleet.ts'
import { freePort } from '../helpers/ports.ts'
import { send } from '../helpers/robot.ts'
import {
  forEachDatabase,
  type OpenWorld,
  servedTemplates,
  type World,
  worldBegins,
} from '../helpers/world.ts'

const folder = t.testdir({ data: { pki: {} }, artifacts: {} })
await createAuthority(join(folder, 'data'), worldBegins)
const authority = openAuthority(join(folder, 'data'))
const ca = authority.rootCertificate
const tls = (await loadTls(authority, { kind: 'boot', names: ['127.0.0.1'], now: worldBegins })).options()

/** Where a fleet's own nextboot documents lie: any web server that answers HEAD and ranges. */
async function serveDocuments(t: Test): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = []
  const server = createServer(tls, (request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim())
    const body = JSON.stringify({ v1: { commands: [`# from ${request.url}`] } })
    response.setHeader('accept-ranges', 'bytes').setHeader('content-length', body.length)
    response.statusCode = request.method === 'GET' && request.headers.range !== undefined ? 206 : 200
    response.end(request.method === 'HEAD' ? undefined : body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

interface Fleet {
  readonly world: World
  readonly port: number
  readonly asked: string[]
  stage1Json(): Promise<Record<string, string>>
}

async function open(t: Test, openWorld: OpenWorld): Promise<Fleet> {
  const documents = await serveDocuments(t)
  const port = await freePort()
  const world = await openWorld({
    templates: servedTemplates(),
    settings: { publicUrl: `https://127.0.0.1:${port}` },
  })
  const app = buildBootListener(openStory(world.context), {
    tls,
    log: pino({ level: 'silent' }),
    limits: { maxBodyBytes: 65_536, requestTimeoutSeconds: 15, idleTimeoutSeconds: 15, maxConnections: 100 },
    trustedProxies: [],
    artifacts: openArtifactCache(await openArtifactStore(join(folder, 'artifacts'))),
  })
  await app.listen({ host: '127.0.0.1', port })
  t.teardown(() => app.close())
  const url = (name: string): string => `${documents.url}/{{VERSION}}/${name}`
  const sequence = {
    imagesVersion: 'v2.1.6',
    chain: {
      'stage1.ipxe': url('stage1to2.ipxe'),
      'stage1.json': url('stage1to2.json'),
      stage2: url('stage2to3.json'),
      stage3: url('stage3.json'),
    },
  }
  await storeProfile(world, {
    name: 'mlab',
    tokens: 'epoxy',
    evidence: ['address'],
    acceptAddressOnly: true,
    boot: sequence,
    reinstall: sequence,
  })
  await storeNode(world, {
    name: 'mlab1.lga0t',
    profile: 'mlab',
    addresses: [{ address: '127.0.0.1', prefixLength: 32 }],
  })
  return {
    world,
    port,
    asked: documents.asked,
    stage1Json: async () => {
      const answer = await send({ port, ca }, 'POST', '/v1/boot/mlab1.lga0t/stage1.json', {
        'content-type': 'application/x-www-form-urlencoded',
      })
      return JSON.parse(answer.text).kargs as Record<string, string>
    },
  }
}

const done = (): void => {}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('stage1.ipxe has the names, the order and the layout that ePoxy has', async (t) => {
    const { port, world } = await open(t, openWorld)
    const answer = await send(
      { port, ca },
      'POST',
      '/v1/boot/mlab1.lga0t/stage1.ipxe',
      { 'content-type': 'application/x-www-form-urlencoded' },
      'platform=efi&other=x',
    )
    const base = `https://127\\.0\\.0\\.1:${port}/v1/boot/mlab1\\.lga0t/[\\w-]{44}`
    t.match(
      answer.text,
      new RegExp(
        `^#!ipxe\\n\\nset stage1chain_url https://127\\.0\\.0\\.1:\\d+/v2\\.1\\.6/stage1to2\\.ipxe\\nset stage2_url ${base}/stage2\\n` +
          `set stage3_url ${base}/stage3\\nset report_url ${base}/report\\nset images_version v2\\.1\\.6\\n\\nchain \\$\\{stage1chain_url\\}\\n$`,
      ),
    )
    t.match(await nodeRow(world, 'mlab1.lga0t'), { state: 'booting' })
  })

  await t.test('a client as epoxy_client runs the whole chain', async (t) => {
    const { world, stage1Json, asked } = await open(t, openWorld)
    const kargs = await stage1Json()
    t.same(Object.keys(kargs), ['epoxy.images_version', 'epoxy.report', 'epoxy.stage2', 'epoxy.stage3'])
    const ran: unknown[] = []
    const client = { ca, kargs, run: (_stage: string, document: unknown) => void ran.push(document) }
    // A kexec that succeeds never returns, so the real client's stage 2 reports failures only.
    const kexec = new Error('kexec')
    const second = await runEpoxyStage({
      ...client,
      stage: 'stage2',
      run: (_s, d) => {
        ran.push(d)
        throw kexec
      },
    })
    t.equal(second.reported, 204)
    t.equal((await runEpoxyStage({ ...client, stage: 'stage3' })).reported, 204)
    t.same(ran, [
      { v1: { commands: ['# from /v2.1.6/stage2to3.json'] } },
      { v1: { commands: ['# from /v2.1.6/stage3.json'] } },
    ])
    t.same(
      asked,
      ['stage2to3', 'stage3'].flatMap((name) => [
        `HEAD /v2.1.6/${name}.json`,
        `GET /v2.1.6/${name}.json bytes=0-`,
      ]),
    )
    t.match(await nodeRow(world, 'mlab1.lga0t'), { state: 'ready' })
    t.same(await world.kinds({ node: 'mlab1.lga0t' }), [
      'session-opened',
      'stage2-redeemed',
      'attempt-failed',
      'stage3-redeemed',
      'session-ready',
    ])
    const dump = await world.dump()
    for (const name of ['epoxy.stage2', 'epoxy.stage3', 'epoxy.report']) {
      const token = new URL(kargs[name] ?? '').pathname.split('/')[4] ?? ''
      t.equal(token.length, 44)
      t.notOk(dump.includes(token.slice(12)), `${name} is not stored`)
    }
  })

  await t.test(
    'a stage may be asked again until the next one is, and no success is believed before it',
    async (t) => {
      const { world, stage1Json } = await open(t, openWorld)
      const kargs = await stage1Json()
      const client = { ca, kargs, run: done }
      t.match(await runEpoxyStage({ ...client, stage: 'stage3' }), {
        message: 'error: Bad status code: got 403, expected 200 code',
      })
      t.equal((await world.events({ kind: 'refused' }))[0]?.detail.cause, 'wrong-order')
      for (let i = 0; i < 3; i++) {
        const early = await runEpoxyStage({ ...client, stage: 'stage2' })
        t.equal(early.reported, 403, 'an empty v1 makes the client report success at stage 2')
        world.clock.advance(60)
      }
      t.equal((await world.kinds({ kind: 'answer-repeated' })).length, 2)
      t.equal(
        (await runEpoxyStage({ ...client, stage: 'stage3', run: () => Promise.reject(new Error('disk')) }))
          .reported,
        204,
      )
      t.match(
        await runEpoxyStage({ ...client, stage: 'stage2' }),
        { message: 'error: Bad status code: got 403, expected 200 code' },
        'stage 2 is over',
      )
      t.equal((await runEpoxyStage({ ...client, stage: 'stage3' })).reported, 204)
      t.match(await nodeRow(world, 'mlab1.lga0t'), { state: 'ready' })
      t.match(
        await runEpoxyStage({ ...client, stage: 'stage3' }),
        { message: 'error: Bad status code: got 403, expected 200 code' },
        'nothing replays after success',
      )
    },
  )

  await t.test('a report from a normal boot does not clear a mark set meanwhile', async (t) => {
    const { world, stage1Json } = await open(t, openWorld)
    const kargs = await stage1Json()
    await runEpoxyStage({ ca, kargs, run: () => Promise.reject(new Error('kexec')), stage: 'stage2' })
    await world.context.storage.db.updateTable('nodes').set({ reinstall: 'marked' }).execute()
    await runEpoxyStage({ ca, kargs, run: done, stage: 'stage3' })
    t.match(await nodeRow(world, 'mlab1.lga0t'), { state: 'ready', reinstall: 'marked' })
  })

  await t.test("a stage's URL lives seven hours, and never longer than its session", async (t) => {
    const { world, stage1Json } = await open(t, openWorld)
    const kargs = await stage1Json()
    for (let hour = 0; hour < 6; hour++) {
      await runEpoxyStage({ ca, kargs, run: () => Promise.reject(new Error('again')), stage: 'stage2' })
      world.clock.advance(3600)
    }
    world.clock.advance(3601)
    t.match(await runEpoxyStage({ ca, kargs, run: done, stage: 'stage2' }), {
      message: 'error: Bad status code: got 403, expected 200 code',
    })
    t.match((await world.events({ kind: 'refused' }))[0]?.detail, { cause: 'expired-token' })
  })
})
