import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'

const helpers = join(import.meta.dirname, 'boot/helpers/process.ts')

/** A process that starts a server as a boot test does. The server says that it serves, keeps a connection to us, and goes on for ever. */
function bootTest(port: number): string {
  const server = `
    require('node:net').connect(${port}, '127.0.0.1', () => console.log('{"operator":"https://localhost"}'))
    setInterval(() => {}, 1000)
  `
  return `
    const { startServer } = await import(${JSON.stringify(helpers)})
    await startServer([process.execPath, '-e', ${JSON.stringify(server)}], [], () => {})
    console.log('it serves')
  `
}

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  t.test(`the server of a boot test that is ended by ${signal} ends with it`, async (t) => {
    const ours = createServer().listen(0, '127.0.0.1')
    t.teardown(() => ours.close())
    await once(ours, 'listening')
    const connected = once(ours, 'connection')
    const { port } = ours.address() as AddressInfo // it listens on a TCP port
    const child = spawn(process.execPath, ['--input-type=module', '-e', bootTest(port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    const [socket] = (await connected) as [Socket]
    await once(child.stdout, 'data')
    const gone = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
    socket.resume()
    child.kill(signal)
    await gone
    t.pass('its connection is closed')
  })
}
