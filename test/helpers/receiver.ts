import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { prepared } from '../cli/helpers/installation.ts'

/** What a receiver was sent. */
export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** How a receiver answers; `hold` answers when it resolves. */
export interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  readonly hold?: Promise<void>
}

/** A real receiver over HTTPS, with a certificate of the tests' CA. */
export interface Receiver {
  readonly url: string
  readonly ca: string
  readonly received: Received[]
  /** What it answers from now on. */
  answer: (received: Received) => Answer
  /** Resolves when it has been sent so many. */
  sent(count: number): Promise<void>
}

/** Starts one; it ends with the test. */
export async function startReceiver(
  t: Test,
  { tls = true }: { readonly tls?: boolean } = {},
): Promise<Receiver> {
  const { folder, tls: own } = await prepared()
  const received: Received[] = []
  const waiting: { readonly count: number; readonly done: () => void }[] = []
  const handle: RequestListener = (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', async () => {
      const one = {
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
      }
      received.push(one)
      for (const { count, done } of waiting) if (received.length >= count) done()
      const { status, headers, body, hold } = receiver.answer(one)
      await hold
      response.writeHead(status, { ...headers }).end(body)
    })
  }
  const server = tls ? createServer(own, handle) : createHttpServer(handle)
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const receiver: Receiver = {
    url: `${tls ? 'https' : 'http'}://localhost:${(server.address() as AddressInfo).port}`,
    ca: readFileSync(join(folder, 'ca.crt'), 'utf8'),
    received,
    answer: () => ({ status: 204 }),
    sent: (count) =>
      new Promise((done) => {
        if (received.length >= count) done()
        else waiting.push({ count, done })
      }),
  }
  return receiver
}

/** Checks a message as a receiver should: says which of the secrets signed it. */
export function signersOf({ headers, body }: Received, secrets: readonly string[]): number[] {
  const signatures = String(headers['webhook-signature']).split(' ')
  return secrets.flatMap((secret, index) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
    const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
    const expected = `v1,${createHmac('sha256', key).update(text).digest('base64')}`
    return signatures.includes(expected) ? [index] : []
  })
}
