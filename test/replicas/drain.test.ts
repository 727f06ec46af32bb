import { once } from 'node:events'
import { request } from 'node:https'
import { connect } from 'node:tls'
import pino from 'pino'
import t from 'tap'
import { startServer } from '../../src/server.ts'
import { configOf, install } from '../backup/helpers.ts'

t.test('a server that is told to stop says so first, serves on, and cuts nobody short', async (t) => {
  const { dataDir, database, ca, secret } = await install(t)
  const server = await startServer({
    config: configOf(dataDir, { database, drainSeconds: '6' }),
    clock: () => new Date(),
    log: pino({ level: 'silent' }),
    hostName: 'localhost',
    processId: process.pid,
    templatesFolder: `${import.meta.dirname}/../../ipxe-templates`,
  })
  const status = async (path: string): Promise<number | undefined> => {
    const asking = request(new URL(path, server.ready.operator), { ca, agent: false }).end()
    const [response] = await once(asking, 'response')
    response.resume()
    return response.statusCode
  }
  t.equal(await status('/readyz'), 200)
  const boot = new URL(server.ready.boot)
  const socket = connect({ host: '127.0.0.1', port: Number(boot.port), ca, servername: 'localhost' })
  let said = ''
  socket.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await once(socket, 'secureConnect')
  const ended = once(socket, 'end')
  const ask = (more: string): string =>
    `POST /v1/boot/node1/stage1.ipxe HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n${more}`
  const body = `secret=${secret}&platform=efi`
  // Under way before the server is told to stop, and still when it stops accepting.
  socket.write(ask(`Content-Length: ${body.length}\r\n\r\nsecret=`))
  const closed = server.close()
  t.equal(await status('/readyz'), 503, 'while it still serves')
  t.equal(await status('/healthz'), 200)
  for (;;) {
    const found = await status('/healthz').catch(() => 0)
    if (found === 0) break
  }
  socket.write(body.slice('secret='.length))
  while (!/\r\n\r\n#!ipxe/.test(said)) await once(socket, 'data')
  t.match(said, /^HTTP\/1\.1 200 /, 'what was under way is answered')
  said = ''
  socket.write(ask(`Content-Length: ${body.length}\r\n\r\n${body}`))
  await ended
  t.match(said, /^HTTP\/1\.1 200 /, 'and what came next on the same connection')
  t.match(said, /\r\nconnection: close\r\n/i)
  await closed
})
