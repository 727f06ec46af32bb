import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Files that boot machines run side by side, but an emulated machine takes a core: each file says how many it has on at one
 * time, and waits until so many cores are free. First come, first served, and all at once, so that nobody waits for ever.
 * The run's own process hands out the turns over a socket: a file that ends, however it ends, gives back what it had.
 */

const variable = 'PAWL_TEST_TURNS'

/** Hands out turns for `cores` machines to the processes started after this; returns what ends it. */
export async function openTurns(cores: number): Promise<() => void> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-turns-'))
  const waiting: { readonly socket: Socket; readonly machines: number }[] = []
  let free = cores
  const serveNext = (): void => {
    for (let next = waiting[0]; next !== undefined && next.machines <= free; next = waiting[0]) {
      waiting.shift()
      if (next.socket.destroyed) continue
      const { machines, socket } = next
      free -= machines
      socket.once('close', () => {
        free += machines
        serveNext()
      })
      socket.write('go')
    }
  }
  const server = createServer((socket) => {
    socket.on('error', () => undefined) // its file was killed: the close that follows says all
    socket.once('data', (data) => {
      waiting.push({ socket, machines: Math.min(Number(String(data)), cores) })
      serveNext()
    })
  })
  const path = join(folder, 'socket')
  server.listen(path)
  await once(server, 'listening')
  process.env[variable] = path
  return () => {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Waits for the turn of this file, which has so many machines on at a time; returns what gives it back. */
export async function takeTurn(machines: number): Promise<() => void> {
  const path = process.env[variable]
  if (path === undefined) return () => undefined
  const socket = connect(path)
  await once(socket, 'connect')
  socket.write(String(machines))
  await once(socket, 'data')
  socket.unref()
  return () => void socket.destroy()
}
