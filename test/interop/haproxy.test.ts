import { execFile, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { setAddresses } from '../../src/storage/nodes.ts'
import { configOf, install, portOf, serve, withStorage } from '../backup/helpers.ts'
import { demoProfile } from '../helpers/fleet.ts'
import { startHaproxy } from '../helpers/haproxy.ts'
import { freePort } from '../helpers/ports.ts'

/** A real HAProxy before a real Pawl, on loopback, where every address of 127.0.0.0/8 is a machine of its own. */
const wanted = process.env.PAWL_REQUIRE === 'all'
const absent = wanted || spawnSync('which', ['haproxy']).status === 0 ? false : 'haproxy is not installed'
const example = join(import.meta.dirname, '../../deploy/haproxy/haproxy.cfg')

t.test('HAProxy takes the example', { skip: absent }, (t) => {
  const checked = spawnSync('haproxy', ['-c', '-f', example], { encoding: 'utf8' })
  t.equal(checked.status, 0, checked.stderr)
  t.notMatch(checked.stdout + checked.stderr, /WARNING|ALERT/)
  t.end()
})

interface Proxy {
  readonly port: number
  readonly port6: number
}

async function startProxy(t: Test, pawl: number, how: string): Promise<Proxy> {
  const [port, port6] = [await freePort(), await freePort()]
  const text = `defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend boot
    bind 127.0.0.1:${port}
    bind [::1]:${port6}
    default_backend pawl
backend pawl
    server pawl1 127.0.0.1:${pawl} ${how}
`
  await startHaproxy(t, text, port)
  return { port, port6 }
}

/** What a machine at this address gets. */
async function ask(ca: string, from: string, url: string): Promise<string> {
  const arguments_ = [
    '-sS',
    '-g',
    '--cacert',
    ca,
    '--interface',
    from,
    '-w',
    '%{http_code}',
    '-o',
    '/dev/null',
    url,
  ]
  const { stdout } = await promisify(execFile)('curl', arguments_)
  return stdout
}

for (const [how, version] of [
  ['send-proxy', 'version 1'],
  ['send-proxy-v2', 'version 2'],
  ['send-proxy-v2 proxy-v2-options crc32c,unique-id', 'version 2 with a checksum and more'],
  ['send-proxy-v2 check check-send-proxy inter 50ms', 'version 2 with checks'],
] as const) {
  t.test(`behind HAProxy a machine is who it is: PROXY protocol, ${version}`, { skip: absent }, async (t) => {
    const { dataDir, database } = await install(t)
    writeFileSync(
      join(dataDir, 'pawl.yaml'),
      'publicUrl: https://127.0.0.1:8443\nproxyProtocolFrom: [127.0.0.1]\n',
      {
        mode: 0o600,
      },
    )
    const profile = { ...demoProfile, acceptUnsigned: true, evidence: ['address'], acceptAddressOnly: true }
    await withStorage(database, (storage) =>
      storage.transaction(async (tx) => {
        const document = JSON.stringify(writeProfile(parseProfile(profile)))
        await tx.updateTable('profiles').set({ document }).where('name', '=', 'demo').execute()
        await setAddresses(tx, 'id-node1', [{ address: '127.0.0.7', prefixLength: 32 }])
        await setAddresses(tx, 'id-node2', [{ address: '::1', prefixLength: 128 }])
      }),
    )
    t.same(configOf(dataDir).proxyProtocolFrom, ['127.0.0.1/32'])
    const server = await serve(t, dataDir, database)
    const { port, port6 } = await startProxy(t, portOf(server), how)
    const ca = join(dataDir, 'ca.crt')
    const stage1 = (node: string, host: string): string =>
      `https://${host}/v1/boot/${node}/stage1.ipxe?platform=efi`
    t.equal(
      await ask(ca, '127.0.0.7', stage1('node1', `127.0.0.1:${port}`)),
      '200',
      'its own address proves it',
    )
    t.equal(await ask(ca, '127.0.0.8', stage1('node1', `127.0.0.1:${port}`)), '403', 'another does not')
    t.equal(await ask(ca, '127.0.0.1', stage1('node1', `127.0.0.1:${port}`)), '403', "nor the proxy's")
    t.equal(await ask(ca, '::1', stage1('node2', `[::1]:${port6}`)), '200', 'IPv6 the same')
    await t.rejects(
      ask(ca, '127.0.0.1', stage1('node1', `127.0.0.1:${portOf(server)}`)),
      'not around the proxy',
    )
    t.equal(
      await ask(ca, '127.0.0.9', stage1('node1', `127.0.0.1:${portOf(server)}`)),
      '403',
      'who is no proxy needs no header',
    )
    await server.close()
    const events = await withStorage(database, ({ db }) =>
      db
        .selectFrom('events')
        .select(['kind', 'node', 'source', 'detail'])
        .where('kind', 'in', ['session-opened', 'refused', 'handshake-failed'])
        .orderBy('id')
        .execute(),
    )
    const told = events.map(({ kind, node, source }) => `${kind} ${node} ${source}`)
    t.same(
      new Set(told),
      new Set([
        'session-opened node1 127.0.0.7',
        'refused node1 127.0.0.8',
        'refused node1 127.0.0.1',
        'session-opened node2 ::1',
        'handshake-failed null 127.0.0.1',
        'refused node1 127.0.0.9',
      ]),
    )
    // `answering` connects and says nothing: HAProxy tells that under its address.
    const failed = events
      .filter(({ kind }) => kind === 'handshake-failed')
      .map(({ detail }) => JSON.parse(detail).cause)
      .filter((cause) => cause !== 'hung-up-early')
    t.same(failed, ['proxy-header-missing'], 'checks leave no event')
  })
}
