import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect, createServer } from 'node:tls'
import t from 'tap'
import { tlsOf } from '../src/open-boot.ts'
import { createAuthority, openAuthority } from '../src/pki/authority.ts'
import { loadTls } from '../src/pki/tls.ts'

t.test('a TLS session may be gone on with for 300 s, also behind a change of the ticket key', async (t) => {
  const now = new Date() // TLS looks at the real clock
  const folder = join(t.testdir({ data: { pki: {} } }), 'data')
  await createAuthority(folder, now)
  const tls = await loadTls(openAuthority(folder), { kind: 'boot', names: ['127.0.0.1'], now })
  const entry = { publicUrl: 'https://127.0.0.1', root: tls.root, ca: tls.roots }
  const options = (period: number) =>
    tlsOf(
      { tls, entry },
      { key: () => ({ period, bytes: Buffer.alloc(48, period) }), turn: async () => false },
    )
  const server = createServer(options(1), (socket) => socket.on('error', () => {}).end('.'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo // it listens on a TCP port
  /** The lifetime that the server tells with its ticket: `[9]` in a session of OpenSSL's (ssl_asn1.c). */
  const lifetime = async (): Promise<number | undefined> => {
    const socket = connect({ port, host: '127.0.0.1', ca: tls.roots, maxVersion: 'TLSv1.2' })
    await once(socket, 'secureConnect')
    const session = socket.getSession() ?? Buffer.alloc(0)
    socket.destroy()
    const at = session.indexOf(Buffer.from('a9040202', 'hex'))
    return at < 0 ? undefined : session.readUInt16BE(at + 4)
  }
  t.equal(await lifetime(), 300)
  server.setSecureContext(options(2))
  t.equal(await lifetime(), 300)
})
