/** Hostile clients as a process of their own: each has its own open files, and its own addresses. Started by `fork`. */
import { connect, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, type TLSSocket } from 'node:tls'

/** What a process of them does. */
export interface Hostile {
  readonly port: number
  readonly count: number
  /** Connections come from 127.NET.x.y, each from another unless they are of one address. */
  readonly net: number
  readonly ofOneAddress?: true
  /** Then they come from these IPv6 /64 in turn (`2001:db8:0:1`), each from another address of it. */
  readonly subnets?: readonly string[]
  /** So many connect at one time. */
  readonly atOnce?: number
  /** Whether each shakes hands first; `resumed`: with the session of the first, so that many are there soon. */
  readonly tls: boolean | 'resumed'
  /** What each says then, base64; nothing where it is empty. */
  readonly says: readonly string[]
  /** What each says every so often, base64. */
  readonly trickles?: { readonly bytes: string; readonly everyMilliseconds: number }
  /** Whether it reads what comes. */
  readonly reads: boolean
}

/** What it tells when all have connected, and when one was closed. */
export type HostileNews = { readonly opened: number } | { readonly closed: number; readonly got: string }

async function run({
  port,
  count,
  net,
  ofOneAddress,
  subnets,
  atOnce = 100,
  tls,
  says,
  trickles,
  reads,
}: Hostile): Promise<void> {
  const sockets: Socket[] = []
  let closed = 0
  let _news: NodeJS.Timeout | undefined
  let got = ''
  let session: Buffer | undefined
  const secureContext = createSecureContext(tls === 'resumed' ? { maxVersion: 'TLSv1.2' } : {})
  const tell = (): void => {
    _news ??= setTimeout(() => {
      _news = undefined
      process.send?.({ closed, got } satisfies HostileNews)
    }, 50)
  }
  const open = (at: number): Promise<void> =>
    new Promise((resolve) => {
      const from4 = ofOneAddress ? `127.${net}.0.1` : `127.${net}.${at >> 7}.${(at & 127) + 1}`
      const raw = connect(
        subnets === undefined
          ? { port, host: '127.0.0.1', localAddress: from4 }
          : {
              port,
              host: '2001:db8::1',
              localAddress: `${subnets[at % subnets.length]}::${(at + 1).toString(16)}`,
            },
      )
      const known = session === undefined ? {} : { session }
      const socket = tls
        ? connectTls({ socket: raw, rejectUnauthorized: false, secureContext, ...known })
        : raw
      for (const one of new Set([raw, socket])) one.on('error', () => {})
      socket.once('close', () => {
        closed += 1
        tell()
        resolve()
      })
      if (reads)
        socket.on('data', (chunk: Buffer) => {
          if (got.length < 300) got += chunk.toString('latin1')
        })
      socket.once(tls ? 'secureConnect' : 'connect', () => {
        if (tls === 'resumed') session ??= (socket as TLSSocket).getSession()
        const words = says[at % Math.max(1, says.length)]
        if (words !== undefined && words !== '') socket.write(Buffer.from(words, 'base64'))
        if (!reads) socket.pause()
        resolve()
      })
      sockets.push(socket)
    })
  await open(0)
  for (let from = 1; from < count; from += atOnce)
    await Promise.all(Array.from({ length: Math.min(atOnce, count - from) }, (_, at) => open(from + at)))
  process.send?.({ opened: count } satisfies HostileNews)
  if (trickles === undefined) return
  const bytes = Buffer.from(trickles.bytes, 'base64')
  setInterval(() => {
    for (const socket of sockets) if (socket.writable) socket.write(bytes)
  }, trickles.everyMilliseconds)
}

process.once('message', (hostile: Hostile) => void run(hostile))
process.once('disconnect', () => process.exit())
