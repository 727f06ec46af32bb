import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Below those that Linux gives to outgoing connections and to who listens at any port: another test that opens thousands of connections
 * takes none of these, however long a server needs to begin, or to begin again.
 */
const [lowest, highest] = [10_240, 32_000]
const given = new Set<number>()

/** A TCP port of loopback that nobody has now, and that nobody else is given. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(lowest, highest)
    if (given.has(port) || !(await isFree(port))) continue
    given.add(port)
    return port
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const listens = new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
  })
  if (!(await listens)) return false
  server.close()
  await once(server, 'close')
  return true
}
