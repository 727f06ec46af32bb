import { createHash } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { type AddressInfo, createServer as createPlainServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createOperator } from '../../src/fleet/operators.ts'
import { appendEvent } from '../../src/storage/events.ts'
import type { Role } from '../../src/storage/tables.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { smallKernel } from '../helpers/small-image.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'
import { openInstallation, prepared, type Ran, run, temporaryFolder } from './helpers/installation.ts'

await t.test('with a server that is not as it should be', async (t) => {
  const { folder, tls } = await prepared()
  const odd = (handle: (request: IncomingMessage, response: ServerResponse) => void, options = {}) =>
    listen(t, createServer({ ...tls, ...options }, handle))
  const env = { PAWL_TOKEN: 'token-that-is-secret', PAWL_CA: join(folder, 'ca.crt') }
  const list = (port: number, name = '127.0.0.1'): Promise<Ran> =>
    run(['node', 'list'], { env: { ...env, PAWL_URL: `https://${name}:${port}` } })
  const answering = (status: number, type: string, body: string) =>
    odd((_request, response) => response.writeHead(status, { 'content-type': type }).end(body))

  const unknownForm = (status: number) =>
    `error: the server answered ${status} in a form that this pawl does not know\nhint: is this the operator listener, and of the same version?\n`
  for (const [title, status, type, body] of [
    ['refuses a page instead of an answer', 200, 'text/html', '<html>'],
    ['refuses JSON that is cut off', 200, 'application/json', '{"items": ['],
    ['refuses JSON that is no document', 200, 'application/json', '5'],
    ['refuses a redirect', 302, 'text/plain', ''],
    ['refuses an error that is no problem document', 502, 'text/html', '<html>Bad gateway'],
    ['refuses a problem document without words', 500, 'application/problem+json', '{"detail": 5}'],
  ] as const) {
    await t.test(title, async (t) => {
      t.same(await list(await answering(status, type, body)), {
        exit: 1,
        stdout: '',
        stderr: unknownForm(status),
      })
    })
  }

  await t.test('tells a problem of an unknown code, without its control characters', async (t) => {
    const problem = JSON.stringify({
      detail: 'out of \u001b[31mluck\nerror: more',
      code: 'new',
      requestId: 'r-1',
    })
    const { stderr } = await list(await answering(500, 'application/problem+json', problem))
    t.equal(
      stderr,
      "error: out of ?[31mluck error: more\nhint: the server's log has the cause under request id r-1\n",
    )
  })

  await t.test(
    'what makes something is sent again under its key when the connection is cut, once',
    async (t) => {
      const keys: unknown[] = []
      const port = await odd((request, response) => {
        keys.push(request.headers['idempotency-key'])
        if (keys.length === 1) return request.socket.destroy()
        const problem = JSON.stringify({ detail: 'node "a" exists', code: 'exists' })
        response.writeHead(409, { 'content-type': 'application/problem+json' }).end(problem)
      })
      const add = (at: number) =>
        run(['node', 'add', 'a'], { env: { ...env, PAWL_URL: `https://127.0.0.1:${at}` } })
      t.match(await add(port), { exit: 1, stderr: 'error: node "a" exists\n' })
      t.equal(keys.length, 2)
      t.match(keys[0], /^"[0-9a-f-]{36}"$/)
      t.equal(keys[1], keys[0])
      await add(port)
      t.not(keys[2], keys[0], 'another command has another key')
      let asked = 0
      const cutting = await odd((request) => {
        asked += 1
        request.socket.destroy()
      })
      t.match((await add(cutting)).stderr, /the connection was cut/)
      t.equal(asked, 2)
    },
  )

  await t.test('says that a connection was cut', async (t) => {
    const { exit, stderr } = await list(await odd((request) => request.socket.destroy()))
    t.equal(exit, 1)
    t.match(
      stderr,
      /^error: the server at https:\/\/127\.0\.0\.1:\d+ does not answer: the connection was cut\nhint: check PAWL_URL/,
    )
  })

  await t.test('says that an answer was cut', async (t) => {
    const port = await odd((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' })
      response.write('{"items"', () => response.destroy())
    })
    t.match((await list(port)).stderr, /does not answer: the connection was cut/)
  })

  await t.test('refuses a certificate for other names', async (t) => {
    const server = createServer({ ...tls }, (_request, response) => response.end())
    const port = await listen(t, server, '127.0.0.2')
    t.match(
      (await list(port, '127.0.0.2')).stderr,
      /its certificate is for other names\nhint: use a name that/,
    )
  })

  await t.test('refuses TLS 1.2', async (t) => {
    const port = await odd((_request, response) => response.end(), {
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
    })
    t.match(
      (await list(port)).stderr,
      /it does not speak TLS 1\.3\nhint: is this the port of the operator listener\?/,
    )
  })

  await t.test('refuses a server without TLS', async (t) => {
    const plain = createPlainServer((socket) => socket.on('error', () => {}).end('HTTP/1.1 200 OK\r\n\r\n'))
    t.match((await list(await listen(t, plain))).stderr, /it does not speak TLS\n/)
  })

  await t.test('hears a refusal in the middle of an upload', async (t) => {
    const folder = temporaryFolder(t)
    const big = join(folder, 'big')
    writeFileSync(big, Buffer.alloc(32 * 1024 * 1024, 1))
    const port = await odd((request, response) => {
      const full = request.method === 'PUT'
      response.writeHead(full ? 507 : 404, { 'content-type': 'application/problem+json' })
      response.end(
        JSON.stringify({
          detail: full ? 'the disk is full' : 'absent',
          code: full ? 'disk-full' : 'not-found',
        }),
      )
      if (full) request.pause()
    })
    const argv = ['image', 'publish', 'a@1', '--kernel', big, '--initramfs', big]
    const ran = await run(argv, { env: { ...env, PAWL_URL: `https://127.0.0.1:${port}` } })
    t.same(ran, { exit: 1, stdout: '', stderr: 'error: the disk is full\n' })
  })

  await t.test('refuses a file that becomes shorter while it is published', async (t) => {
    const file = join(temporaryFolder(t), 'kernel')
    writeFileSync(file, 'a kernel')
    const port = await odd((request, response) => {
      if (request.method === 'HEAD') writeFileSync(file, '')
      response.writeHead(404, { 'content-type': 'application/problem+json' })
      response.end(JSON.stringify({ detail: 'absent', code: 'not-found' }))
    })
    const argv = ['image', 'publish', 'a@1', '--kernel', file, '--initramfs', file]
    const ran = await run(argv, { env: { ...env, PAWL_URL: `https://127.0.0.1:${port}` } })
    t.equal(ran.stderr, `error: the kernel ${file} became shorter while it was published\n`)
  })

  await t.test('never shows the token', async (t) => {
    const port = await answering(401, 'application/problem+json', '{"detail": "no"}')
    const { stdout, stderr } = await list(port)
    t.notMatch(stdout + stderr, /token-that-is-secret/)
    t.match(stderr, /^error: no\nhint: check PAWL_TOKEN/)
  })
})

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('the command line does not see which database it is')
    return
  }
  await t.test('image publish', (t) => publishing(t, openWorld))
  await t.test('node list', (t) => paging(t, openWorld))
  await t.test('event list', (t) => following(t, openWorld))
  await t.test('node secret --autoexec', (t) => writing(t, openWorld))
})

async function publishing(t: Test, openWorld: OpenWorld): Promise<void> {
  const pawl = await openInstallation(t, openWorld)
  const folder = temporaryFolder(t)
  const file = (name: string, bytes: string | Buffer): string => {
    writeFileSync(join(folder, name), bytes)
    return join(folder, name)
  }
  const kernel = file('kernel', smallKernel().bytes)
  const initramfs = file('initramfs', 'an initramfs')
  const publish = (...more: string[]): Promise<Ran> =>
    pawl.run(['image', 'publish', 'minimal@1', '--kernel', kernel, '--initramfs', initramfs, ...more])

  await t.test('refuses a file that is not there, empty, or no file', async (t) => {
    for (const [path, why] of [
      [join(folder, 'absent'), 'there is no filesystem '],
      [file('empty', ''), 'the filesystem .* is empty'],
      [folder, 'the filesystem .* is not a regular file'],
    ] as const) {
      const { exit, stdout, stderr } = await publish('--filesystem', path)
      t.same([exit, stdout], [1, ''])
      t.match(stderr, new RegExp(`^error: ${why}`))
    }
  })

  await t.test('refuses a kernel that no machine can start, after it was sent', async (t) => {
    const text = file('text', 'not a kernel')
    const ran = await pawl.run(['image', 'publish', 'bad@1', '--kernel', text, '--initramfs', initramfs])
    t.equal(ran.exit, 1)
    t.match(
      ran.stderr,
      /^kernel: 12 B, sent\ninitramfs: 12 B, sent\nerror: the kernel is not an x86-64 bzImage/,
    )
  })

  await t.test('needs the role publisher, and says so', async (t) => {
    const token = await tokenOf(pawl.world, 'viewer')
    const env = {
      PAWL_DATA: '',
      PAWL_URL: pawl.url,
      PAWL_TOKEN: token,
      PAWL_CA: join(pawl.dataDir, 'ca.crt'),
    }
    const ran = await pawl.run(['image', 'publish', 'a@1', '--kernel', kernel, '--initramfs', initramfs], {
      env,
    })
    t.same(ran, {
      exit: 1,
      stdout: '',
      stderr: 'error: the operator token does not have the role this needs\n',
    })
  })

  await t.test('sends what is missing and prints the digest, alone on stdout', async (t) => {
    const filesystem = file('filesystem', Buffer.alloc(3_000_000, 7))
    const { exit, stdout, stderr } = await publish(
      '--filesystem',
      filesystem,
      '--args',
      ' console=ttyS0  quiet ',
    )
    t.equal(exit, 0)
    t.match(stdout, /^[0-9a-f]{64}\n$/)
    t.equal(stderr, 'kernel: 1.1 kB, sent\ninitramfs: 12 B, there already\nfilesystem: 3.0 MB, sent\n')
    const shown = JSON.parse((await pawl.run(['image', 'show', 'minimal@1', '--json'])).stdout)
    t.equal(shown.digest, stdout.trim())
    t.equal(shown.manifest.kernelArguments, 'console=ttyS0 quiet')
    t.equal(
      shown.manifest.artifacts[2].digest,
      createHash('sha256').update(readFileSync(filesystem)).digest('hex'),
    )
    const again = await publish('--filesystem', filesystem, '--args', 'console=ttyS0 quiet')
    t.equal(again.stdout, stdout)
    t.match(again.stderr, /there already\nminimal@1 was published already, the same\n$/)
  })

  await t.test('says how an image was made, and takes it again a day later as the same', async (t) => {
    const sbom = file('annotations.json', '{"sbom.packages": "pkg:deb/debian/bash@5.2", "team": "a"}')
    const argv = ['image', 'publish', 'made@1', '--kernel', kernel, '--initramfs', initramfs]
    const more = ['--annotations', sbom, '--annotation', 'team=b', '--source-revision', 'c0ffee']
    const first = await pawl.run([...argv, ...more], { env: { USER: 'ci' } })
    t.equal(first.exit, 0, first.stderr)
    const { manifest } = JSON.parse((await pawl.run(['image', 'show', 'made@1', '--json'])).stdout)
    t.match(manifest, { creator: 'ci', sourceRevision: 'c0ffee', createdAt: /^\d{4}-\d\d-\d\dT[\d:]{8}Z$/ })
    t.same(manifest.annotations, { 'sbom.packages': 'pkg:deb/debian/bash@5.2', team: 'b' })
    pawl.world.clock.advance(86_400)
    const again = await pawl.run([...argv, ...more], { env: { USER: 'another' } })
    t.same([again.exit, again.stdout], [0, first.stdout])
    const other = await pawl.run([...argv, ...more, '--creator', 'someone'])
    t.match([other.exit, other.stderr], [1, /a version never changes/])
  })

  await t.test('refuses what it cannot say of an image', async (t) => {
    for (const [more, why] of [
      [['--annotation', 'team'], /--annotation "team" is not of the form KEY=VALUE/],
      [['--annotations', join(folder, 'absent')], /cannot be read \(ENOENT\)/],
      [['--annotations', file('list', '[]')], /is not one JSON object of texts/],
      [['--annotations', file('text', '{')], /is not JSON/],
      [['--annotations', file('large', ' '.repeat(262_145))], /larger than a manifest may be/],
      [['--created', 'yesterday'], /createdAt/],
    ] as const) {
      const ran = await pawl.run([
        'image',
        'publish',
        'said@1',
        '--kernel',
        kernel,
        '--initramfs',
        initramfs,
        ...more,
      ])
      t.not(ran.exit, 0)
      t.match(ran.stderr, why)
    }
    const env = { SOURCE_DATE_EPOCH: 'now' }
    const ran = await pawl.run(['image', 'publish', 'said@1', '--kernel', kernel, '--initramfs', initramfs], {
      env,
    })
    t.match(ran.stderr, /SOURCE_DATE_EPOCH is "now", not seconds since 1970/)
  })

  await t.test('refuses other bytes under a published version before it sends any', async (t) => {
    const { exit, stderr } = await publish('--filesystem', file('other', 'other'))
    t.equal(exit, 1)
    t.match(
      stderr,
      /^error: image minimal@1 is published with digest [0-9a-f]{64}\nhint: a version never changes/,
    )
  })

  await t.test('shows a bar on a terminal, which leaves one line behind', async (t) => {
    const big = file('big', Buffer.alloc(2_000_000, 9))
    const { stderr } = await pawl.run(
      ['image', 'publish', 'big@1', '--kernel', kernel, '--initramfs', initramfs, '--filesystem', big],
      { terminal: 60 },
    )
    t.match(stderr, '\r\u001b[Kfilesystem           [')
    t.match(stderr, '\r\u001b[Kfilesystem: 2.0 MB, sent\n')
    for (const drawn of stderr.split('\r\u001b[K')) t.ok(drawn.trimEnd().length < 60, drawn)
  })

  await t.test('lists and shows what is published', async (t) => {
    t.equal(
      (await pawl.run(['image', 'list'])).stdout.replaceAll(/[0-9a-f]{12}/g, 'DIGEST______'),
      'IMAGE      DIGEST          SIZE  SIGNED  TEST  BY      AGO\nbig@1      DIGEST______  2.0 MB  local   none  admin   0 s\nmade@1     DIGEST______  1.1 kB  local   none  admin  24 h\nminimal@1  DIGEST______  3.0 MB  local   none  admin  24 h\n',
    )
    t.match(
      (await pawl.run(['image', 'show', 'minimal@1'])).stdout,
      /^image {7}minimal@1\ndigest {6}[0-9a-f]{64}\narch {8}x86_64\narguments {3}console=ttyS0 quiet\nmemory {6}any\nkernel /,
    )
    t.match(
      (await pawl.run(['image', 'show', 'minimal@2'])).stderr,
      /^error: image "minimal@2" is not published\n/,
    )
  })
}

async function paging(t: Test, openWorld: OpenWorld): Promise<void> {
  const pawl = await openInstallation(t, openWorld)
  await storeDemoFleet(pawl.world)
  for (let index = 0; index < 1005; index += 1) await storeNode(pawl.world, { name: `n${index}` })
  const { stdout } = await pawl.run(['node', 'list', '--json'])
  t.equal(JSON.parse(stdout).items.length, 1006, 'every page is followed')
  const { stdout: table } = await pawl.run(['node', 'list'])
  t.equal(table.split('\n').length, 1 + 1006 + 1)
}

async function following(t: Test, openWorld: OpenWorld): Promise<void> {
  const pawl = await openInstallation(t, openWorld)
  const at = pawl.world.clock.now()
  const event = {
    kind: 'node-changed',
    at,
    node: 'n',
    session: null,
    actor: 'server',
    source: null,
    detail: {},
  } as const
  await pawl.world.context.storage.transaction(async (tx) => {
    for (let index = 0; index < 2500; index += 1) await appendEvent(tx, event)
  })
  const seqs = async (...flags: string[]): Promise<number[]> => {
    const { stdout } = await pawl.run(['event', 'list', '--node', 'n', '--json', ...flags])
    return JSON.parse(stdout).items.map((item: { seq: number }) => item.seq)
  }
  const numbers = (from: number, to: number): number[] =>
    Array.from({ length: to - from + 1 }, (_, i) => from + i)
  t.same(await seqs(), numbers(2401, 2500), 'the newest, in order')
  t.same(await seqs('--limit', '3'), [2498, 2499, 2500])
  t.same(await seqs('--since', '1h'), numbers(1, 2500), 'every page since a time is followed')
  t.same(await seqs('--since', '1h', '--limit', '1200'), numbers(1, 1200))
}

async function writing(t: Test, openWorld: OpenWorld): Promise<void> {
  const pawl = await openInstallation(t, openWorld)
  await storeDemoFleet(pawl.world)
  const file = join(temporaryFolder(t), 'autoexec.ipxe')
  const refused = await pawl.run(['node', 'secret', 'nobody', '--autoexec', file])
  t.equal(refused.exit, 1)
  t.throws(() => statSync(file), 'a refused secret leaves no file')
  const { stdout } = await pawl.run(['node', 'secret', 'node1', '--autoexec', file])
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.match(readFileSync(file, 'utf8'), stdout.trim(), 'the script carries the secret that was shown')
}

async function tokenOf(world: Awaited<ReturnType<OpenWorld>>, role: Role): Promise<string> {
  return createOperator(world.context, { name: role, role, expiresAt: null })
}

/** Listens until the test ends; returns the port. */
async function listen(
  t: Test,
  server: ReturnType<typeof createPlainServer>,
  host = '127.0.0.1',
): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, host, resolve)
  })
  t.teardown(() => {
    server.close()
    ;(server as Partial<{ closeAllConnections(): void }>).closeAllConnections?.()
  })
  return (server.address() as AddressInfo).port // it listens on a TCP port
}
