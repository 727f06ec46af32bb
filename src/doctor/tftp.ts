import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv6 } from 'node:net'
import { listIpxe } from '../ipxe/folder.ts'
import { encodePacket, parsePacket } from '../tftp/packet.ts'
import { type Finding, fail, ok, type Subject, warn } from './finding.ts'

const patience = 2000

/** Whether firmware gets iPXE by TFTP, where the settings want that; nothing where they do not. */
export async function tftp(subject: Subject): Promise<Finding[]> {
  const { tftpListen: listen } = subject.config
  if (listen === 'off') return []
  const { announced, isAlive } = subject
  const port = announced?.tftp
  const isRunning = announced !== undefined && isAlive(announced.pid)
  return [
    isRunning && port !== undefined ? await served(listen.host, port) : await bindable(listen, isRunning),
    await binaries(subject),
  ]
}

/** Asks the running server for the site script, as firmware would. */
async function served(host: string, port: number): Promise<Finding> {
  const to = host === '::' ? '::1' : host === '0.0.0.0' ? '127.0.0.1' : host
  const socket = createSocket(isIPv6(to) ? 'udp6' : 'udp4')
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`
  try {
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(patience) })
    const options = [['tsize', '0']] as const
    socket.send(encodePacket({ kind: 'read', name: 'autoexec.ipxe', mode: 'octet', options }), port, to)
    const [bytes, from] = (await answer) as [Buffer, { port: number }]
    const { kind } = parsePacket(bytes)
    // Only the size was asked for.
    const message = 'no longer interested'
    if (kind === 'oack') socket.send(encodePacket({ kind: 'error', code: 0, message }), from.port, to)
    if (kind === 'oack') return ok('TFTP', `${where} serves the site script`)
    return fail(
      'TFTP',
      `${where} answers, but not with the site script`,
      'is another TFTP server on this port?',
    )
  } catch {
    const advice = 'is a firewall in front of it? Restart the server, and look at its log'
    return fail('TFTP', `nothing answers at ${where}`, advice)
  } finally {
    // What was sent last leaves first.
    setImmediate(() => socket.close())
  }
}

/** Whether the server could listen there, if it were started now by whoever runs this. */
async function bindable(
  { host, port }: { readonly host: string; readonly port: number },
  isRunning: boolean,
): Promise<Finding> {
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`
  if (isRunning) return warn('TFTP', `the server runs without it, and ${where} is set`, 'restart the server')
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
  try {
    const listening = once(socket, 'listening')
    socket.bind({ address: host, port, exclusive: true })
    await listening
    return ok('TFTP', `${where} is free`)
  } catch (error) {
    const code = String((error as { code?: unknown }).code)
    const advice =
      code === 'EACCES'
        ? 'ports below 1024 need CAP_NET_BIND_SERVICE: see deploy/systemd/pawl.service (this was tried as the present user)'
        : code === 'EADDRINUSE'
          ? 'stop the TFTP server that has it: dnsmasq, tftpd-hpa, atftpd?'
          : 'name an address of this machine in tftpListen'
    return fail('TFTP', `${where} cannot be had (${code})`, advice)
  } finally {
    socket.close()
  }
}

async function binaries({ dataDir }: Subject): Promise<Finding> {
  const { binaries: all } = await listIpxe(dataDir)
  const names = all.map(({ name }) => name)
  if (names.length > 0) return ok('files by TFTP', names.join(', '))
  return warn('files by TFTP', 'there is no iPXE to serve', 'pawl ipxe fetch brings it')
}
