import type { Socket } from 'node:net'

/** How long who is cut off may go on sending into nothing. */
const lingerMilliseconds = 1000

const answers: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}
const answered = new WeakSet<Socket>()

/**
 * Answers what is no request, or takes too long or too much to be one, and cuts it off. Not at once: a connection that is closed
 * with bytes unread is reset, and TCP takes the answer along. What still comes is thrown away, for a second at most.
 */
export function answerAndCutOff(error: Error & { code?: string }, socket: Socket): void {
  if (answered.has(socket)) return
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  answered.add(socket)
  const status = answers[error.code ?? ''] ?? '400 Bad Request'
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  const timer = setTimeout(() => socket.destroy(), lingerMilliseconds).unref()
  socket.once('close', () => clearTimeout(timer))
}
