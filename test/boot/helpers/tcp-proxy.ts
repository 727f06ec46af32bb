import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A forwarder on loopback that can lose answers, for the tests of what happens then. */
export interface TcpProxy {
  /** Connect here instead of to the server. */
  readonly port: number
  /**
   * On the next connection that is opened, lets the TLS handshake and the request through, and throws the server's answer away: the
   * server did its work, the client never hears of it. The connection is reset `cutAfterMs` (default 1000) later. Resolves then.
   * Our agents open one connection for each request.
   */
  loseNextAnswer(cutAfterMs?: number): Promise<void>
  /**
   * Passes on this many more bytes of the server's (a connection's last portion may be more), then none: what is open stands still
   * until `cut`. Resolves then. How a test gets into the middle of a download, however fast that is.
   */
  holdAfter(bytes: number): Promise<void>
  /** Resets every open connection, and ends a hold. New ones work. */
  cut(): void
  /** While true, every connection is reset, open or new: the server is away. */
  setAway(away: boolean): void
  /** Bytes the server sent so far. */
  readonly bytes: number
  close(): Promise<void>
}

/** One request for a lost answer: taken by the next connection. */
interface Loss {
  readonly cutAfterMs: number
  done(): void
}

/** Starts a forwarder to 127.0.0.1:`targetPort`. It has no key: of TLS it sees the record types only. */
export async function startTcpProxy(targetPort: number, listenPort = 0): Promise<TcpProxy> {
  const open = new Set<() => void>()
  const losses: Loss[] = []
  let away = false
  let bytes = 0
  let hold: { readonly at: number; done(): void } | undefined

  const listener = createServer({ noDelay: true }, (client) => {
    if (away) {
      client.resetAndDestroy()
      return
    }
    forward(client, losses.shift())
  })

  function forward(client: Socket, loss: Loss | undefined): void {
    const server = connect({ host: '127.0.0.1', port: targetPort, noDelay: true })
    const records = new ClientRecords()
    let lossy = false
    let timer: NodeJS.Timeout | undefined
    const end = () => {
      if (!open.delete(end)) return
      clearTimeout(timer)
      // A reset, not an orderly end: that is how a cable that was pulled looks in the end.
      client.resetAndDestroy()
      server.destroy()
      if (lossy) loss?.done()
      else if (loss) losses.unshift(loss)
    }
    open.add(end)
    client.on('data', (data: Buffer) => {
      if (loss && !lossy && records.sawRequest(data)) {
        lossy = true
        timer = setTimeout(end, loss.cutAfterMs)
      }
      server.write(data)
    })
    server.on('data', (data: Buffer) => {
      bytes += data.length
      const full = !lossy && !client.write(data)
      if (hold !== undefined && bytes >= hold.at) {
        server.pause()
        hold.done()
      } else if (full) {
        server.pause()
        client.once('drain', () => server.resume())
      }
    })
    server.on('end', () => {
      if (!lossy) client.end()
    })
    client.on('end', () => server.end())
    for (const socket of [client, server]) socket.on('error', end)
    client.on('close', end)
    server.on('close', () => {
      // What the server sent before it closed must still arrive.
      if (!lossy) client.end()
    })
  }

  listener.listen(listenPort, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  const cut = () => {
    hold = undefined
    for (const end of [...open]) end()
  }
  return {
    port: address.port,
    loseNextAnswer: (cutAfterMs = 1000) => new Promise((done) => losses.push({ cutAfterMs, done })),
    holdAfter: (more) =>
      new Promise((done) => {
        hold = { at: bytes + more, done }
      }),
    cut,
    setAway(value) {
      away = value
      if (value) cut()
    },
    get bytes() {
      return bytes
    },
    async close() {
      const closed = once(listener, 'close')
      listener.close()
      cut()
      await closed
    },
  }
}

const changeCipherSpec = 20
const applicationData = 23

/**
 * Finds the first request in a client's TLS records (RFC 8446, 5.1). Application data is the request, but for one case: in TLS 1.3
 * the record right after ChangeCipherSpec has that type too and is the client's Finished.
 */
class ClientRecords {
  #rest = Buffer.alloc(0)
  #before = 0

  sawRequest(data: Buffer): boolean {
    this.#rest = Buffer.concat([this.#rest, data])
    while (this.#rest.length >= 5) {
      const type = this.#rest.readUInt8(0)
      if (type === applicationData && this.#before !== changeCipherSpec) return true
      const size = 5 + this.#rest.readUInt16BE(3)
      if (this.#rest.length < size) return false
      this.#before = type
      this.#rest = this.#rest.subarray(size)
    }
    return false
  }
}
