import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pino from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import { initPawl } from '../../src/init.ts'
import { startServer } from '../../src/server.ts'
import { freePort } from '../helpers/ports.ts'
import { type Answer, send } from '../helpers/robot.ts'

const root = join(import.meta.dirname, '../..')
const form = { 'content-type': 'application/x-www-form-urlencoded' }

/** A real server, with a client of its API. */
async function server(t: Test): Promise<{ boot: number; ca: string; caFile: string; api: Api; url: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-example-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  const port = await freePort()
  const url = `https://localhost:${port}`
  const names = ['localhost' as never]
  await initPawl({
    dataDir,
    database: join(dataDir, 'pawl.db'),
    publicUrl: undefined,
    names,
    now: new Date(),
  })
  const flags = {
    ...{ data: dataDir, bootListen: `127.0.0.1:${port}`, operatorListen: '127.0.0.1:0', publicUrl: url },
    extensionAllowedNetworks: ['127.0.0.1/32'],
  }
  const running = await startServer({
    config: loadConfig({ flags: flags as never, env: {}, fileName: 'none' }),
    clock: () => new Date(),
    log: pino({ level: 'silent' }),
    hostName: 'localhost',
    processId: 1,
    templatesFolder: join(root, 'ipxe-templates'),
  })
  t.teardown(() => running.close())
  const caFile = join(dataDir, 'ca.crt')
  const ca = readFileSync(caFile, 'utf8')
  const authorization = `Bearer ${readFileSync(join(dataDir, 'admin.token'), 'utf8').trim()}`
  const to = { port: Number(new URL(running.ready.operator).port), ca }
  const api: Api = async (method, path, body) => {
    const headers = { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    const answer = await send(to, method, `/api/v1${path}`, headers, JSON.stringify(body))
    t.ok(answer.status < 300, `${method} ${path}: ${answer.text}`)
    return JSON.parse(answer.text)
  }
  return { boot: port, ca, caFile, api, url }
}

type Api = (method: string, path: string, body: unknown) => Promise<{ readonly secret: string }>

interface Example {
  readonly port: number
  readonly audience: string
  /** What was sent to it, seen on the way. */
  readonly seen: { readonly jwt: string; readonly body: string }[]
  /** Lets nothing through any more. */
  hold(): void
}

/** The example, as its users start it, behind somebody who sees all that it is sent. */
async function example(
  t: Test,
  { url, caFile }: { readonly url: string; readonly caFile: string },
): Promise<Example> {
  const seen: Example['seen'] = []
  let holding = false
  const port = await freePort()
  const between = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks)
      seen.push({ jwt: String(request.headers.authorization), body: body.toString() })
      if (holding) return response.destroy()
      const { url: path, method, headers } = request
      const onward = httpRequest({ host: '127.0.0.1', port, path, method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers)
        answer.pipe(response)
      })
      return onward.end(body)
    })
  }).listen(0, '127.0.0.1')
  t.teardown(() => between.close())
  await once(between, 'listening')
  const audience = `http://127.0.0.1:${(between.address() as AddressInfo).port}/v2/allocate_k8s_token`
  const child = spawn(process.execPath, [join(root, 'deploy/extension-service/service.mjs')], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: {
      ...{ PAWL_ISSUER: `${url}/v1/extensions`, AUDIENCE: audience, PORT: String(port) },
      NODE_EXTRA_CA_CERTS: caFile,
    },
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
  t.equal(line, `listening on ${port}`)
  return {
    port,
    audience,
    seen,
    hold: () => {
      holding = true
    },
  }
}

function plain(port: number, headers: Record<string, string>, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest({
      host: '127.0.0.1',
      port,
      method: 'POST',
      path: '/v2/allocate_k8s_token',
      headers,
    })
    asked.on('error', reject).on('response', (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    asked.end(body)
  })
}

const chain = 'https://images.example.com/{{VERSION}}'

await t.test('the example service believes Pawl, once, and nobody else', async (t) => {
  const pawl = await server(t)
  const { api } = pawl
  const service = await example(t, pawl)
  await api('PUT', '/extensions/allocate_k8s_token', { url: service.audience })
  await api('PUT', '/profiles/epoxy', {
    ...{ name: 'epoxy', tokens: 'epoxy', evidence: ['secret'], extensions: ['allocate_k8s_token'] },
    boot: {
      imagesVersion: 'v1',
      chain: { 'stage1.ipxe': chain, 'stage1.json': chain, stage2: chain, stage3: chain },
    },
  })
  await api('POST', '/nodes', { name: 'n1', profile: 'epoxy' })
  const { secret } = await api('POST', '/nodes/n1/secret', undefined)
  const node = { port: pawl.boot, ca: pawl.ca }
  const ask = (url: string, body = '', headers: Record<string, string> = form): Promise<Answer> =>
    send(node, 'POST', new URL(url).pathname + new URL(url).search, headers, body)
  const stage1 = await ask(`${pawl.url}/v1/boot/n1/stage1.json`, `secret=${secret}`)
  const { kargs } = JSON.parse(stage1.text) as { kargs: Record<string, string> }
  const extension = kargs['epoxy.allocate_k8s_token'] ?? ''
  t.equal((await ask(extension)).status, 403, 'before stage 2')
  t.equal((await ask(kargs['epoxy.stage2'] ?? '')).status, 200)
  const forged = { authorization: 'Bearer forged', cookie: 'a=b' }
  const answer = await ask(`${extension}?p=1`, 'x=y', { ...form, ...forged })
  t.equal(answer.status, 200, answer.text)
  t.same(JSON.parse(answer.text), {
    api_address: 'api.example.com:6443',
    token: 'abcdef.0123456789abcdef',
    ca_hash: `sha256:${'0'.repeat(64)}`,
  })
  t.equal((await ask(extension)).status, 200, 'asked again, with a JWT of its own')
  t.equal((await ask(`${extension}?${'x'.repeat(2000)}`)).status, 400)
  t.equal((await ask(extension.replace('allocate_k8s_token', 'other'))).status, 403)

  // What others may try with what they made up, or saw on the way.
  t.equal(await plain(service.port, {}, '{}'), 403)
  t.equal(await plain(service.port, { authorization: 'Bearer a.b.c' }, '{}'), 403)
  const [first] = service.seen
  const used = { authorization: first?.jwt ?? '' }
  t.equal(await plain(service.port, used, first?.body ?? ''), 403, 'a JWT that was used')
  service.hold()
  t.equal((await ask(extension)).status, 502)
  const last = service.seen.at(-1)
  const fresh = { authorization: last?.jwt ?? '' }
  t.equal(await plain(service.port, fresh, (last?.body ?? '').replace('n1', 'n2')), 403, 'for another body')
  t.equal(await plain(service.port, fresh, last?.body ?? ''), 200, 'the right one')
  t.equal(await plain(service.port, fresh, last?.body ?? ''), 403, 'and once')
  await api('PUT', '/extensions/allocate_k8s_token', { url: `${service.audience}?other` })
  t.equal((await ask(extension)).status, 502)
  const other = service.seen.at(-1)
  t.equal(
    await plain(service.port, { authorization: other?.jwt ?? '' }, other?.body ?? ''),
    403,
    'for another URL',
  )
  const jwks = await send(node, 'GET', '/v1/extensions/jwks.json')
  t.match(JSON.parse(jwks.text).keys, [{ kty: 'EC', crv: 'P-256', alg: 'ES256', use: 'sig' }])
  t.notOk(jwks.text.includes('"d"'), 'the private half is not in it')
})
