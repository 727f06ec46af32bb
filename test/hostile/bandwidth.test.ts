import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { boots, kernelOf } from '../http/crowds.ts'
import { install, type Server } from '../workers/installation.ts'

/**
 * Limits on bandwidth over a real listener, with two workers. What is tested is how long bytes take at least: a slow machine takes
 * longer, and no test fails for it.
 */
const mebibyte = 2 ** 20

/** A connection to one worker: the other stands still while it is taken. */
async function connectTo(server: Server, worker: 1 | 2): Promise<TLSSocket> {
  const other = server.workerOf(3 - worker) as number // it runs
  process.kill(other, 'SIGSTOP')
  const socket = connect({ host: '127.0.0.1', port: server.port, ca: server.ca }).on('error', () => {})
  await once(socket, 'secureConnect')
  process.kill(other, 'SIGCONT')
  return socket
}

/** Asks for a file and reads so many bytes of it. */
function read(socket: TLSSocket, path: string, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let got = 0
    socket.once('close', () => reject(new Error(`it ended after ${got} bytes`)))
    socket.on('data', (chunk: Buffer) => {
      if (got === 0 && !/^HTTP\/1\.1 200 /.test(chunk.toString('latin1', 0, 20)))
        reject(new Error(chunk.toString('latin1', 0, 300)))
      got += chunk.length
      if (got < bytes) return
      resolve()
      socket.destroy()
    })
    socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`)
  })
}

/** How many seconds it takes until each of these has so many bytes. */
async function seconds(reads: readonly (readonly [TLSSocket, string])[], bytes: number): Promise<number> {
  const began = performance.now()
  await Promise.all(reads.map(([socket, path]) => read(socket, path, bytes)))
  return (performance.now() - began) / 1000
}

t.test('the total is shared by all workers, each of which has its part', async (t) => {
  const place = await install(t, 10)
  const server = await place.start(['--download-bytes-per-second', `${16 * mebibyte}`])
  const to: (readonly [TLSSocket, string])[] = []
  for (const worker of [1, 1, 2, 2] as const) {
    const path = await kernelOf(place, server, `node${to.length + 1}`)
    to.push([await connectTo(server, worker), path])
  }
  const both = seconds(to, 12 * mebibyte)
  await boots(t, place, server, 'node5', 'a node boots meanwhile: what is no download does not wait')
  const took = await both
  t.comment(`48 MiB by both workers: ${took.toFixed(1)} s`)
  t.ok(took > 2.7, `48 MiB at 16 MiB/s took ${took} s`)
  const [fifth, sixth] = [await kernelOf(place, server, 'node6'), await kernelOf(place, server, 'node7')]
  const own = [await connectTo(server, 1), await connectTo(server, 1)] as const
  const alone = await seconds(
    [
      [own[0], fifth],
      [own[1], sixth],
    ],
    12 * mebibyte,
  )
  t.comment(`24 MiB by one: ${alone.toFixed(1)} s`)
  t.ok(alone > 2.7, `24 MiB at half of it took ${alone} s`)
})

t.test('the limit of a node is that of its downloads at each worker', async (t) => {
  const place = await install(t, 10)
  const server = await place.start(['--node-download-bytes-per-second', `${4 * mebibyte}`])
  const path = await kernelOf(place, server, 'node1')
  const same = [await connectTo(server, 1), await connectTo(server, 1)] as const
  const took = await seconds(
    [
      [same[0], path],
      [same[1], path],
    ],
    6 * mebibyte,
  )
  t.comment(`12 MiB by one worker: ${took.toFixed(1)} s`)
  t.ok(took > 2.7, `two of 6 MiB at 4 MiB/s took ${took} s`)
  const each = [await connectTo(server, 1), await connectTo(server, 2)] as const
  const both = await seconds(
    [
      [each[0], path],
      [each[1], path],
    ],
    12 * mebibyte,
  )
  t.comment(`24 MiB by both: ${both.toFixed(1)} s`)
  t.ok(both > 2.7, `12 MiB of each at 4 MiB/s took ${both} s`)
  await boots(t, place, server, 'node2', 'and a node boots')
})
