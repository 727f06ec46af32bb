/**
 * Sends an artifact's bytes: one write at a time, the next one only when the socket has taken the last, so that a slow reader
 * holds one write and no more. TLS keeps an encrypted copy of it, so only readers that keep up get large ones
 * (`nextWriteBytes`). In two steps, so that what fails before the first byte is answered as an error:
 *
 *   const download = await prepareDownload(cache, request, artifact)   // throws PawlError
 *   reply.hijack()
 *   const { bytesSent, completed } = await download.send(reply.raw)    // never throws
 */
import type { ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Artifact } from '../domain/image.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactCache, ArtifactLease, WriteBudget } from '../images/cache.ts'
import { type AnswerPlan, type ArtifactRequest, planAnswer } from '../images/conditional.ts'
import type { ByteRange } from '../images/range.ts'
import type { Lane } from './bandwidth.ts'

/** How a download ended. */
export interface DownloadOutcome {
  /** Bytes of the body that the socket took. */
  readonly bytesSent: number
  /** Whether the whole answer was handed to the operating system. */
  readonly completed: boolean
  /** Why the server ended it, for the log: an artifact could not be read. */
  readonly error?: unknown
}

/** What `send` takes. */
export interface SendOptions {
  /** Headers of the route's own, such as Cache-Control. */
  readonly headers?: Readonly<Record<string, string>>
  /** Called behind each slice with the bytes sent so far: a running transfer keeps its session awake. */
  readonly onProgress?: (bytesSent: number) => void
  /** Where it may not go as fast as it can. */
  readonly lane?: Pick<Lane, 'most' | 'take'>
  /** Milliseconds of a clock that only runs forward, to see how fast the reader is. Tests have their own. */
  readonly now?: () => number
}

const leastWriteBytes = 2 ** 16
const mostWriteBytes = 2 ** 20

/**
 * How much to write next. Small writes cost more CPU, large ones memory while a reader waits (measured on a quiet machine: with
 * 1 MiB 0.86 of what bare Node sends for the same CPU, with 256 KiB 0.78). A reader on a link of 1 Mbit/s gets
 * 64 KiB. A sixteenth of what was sent is the limit, since the kernel's own buffers, up to 4 MB, take the first writes at once
 * from a reader that reads nothing. Among many fast readers each waits while the others are sent theirs: that a write took a
 * quarter of a second says nothing of its reader.
 */
export function nextWriteBytes(last: { bytes: number; tookMs: number }, bytesSent: number): number {
  const wanted = last.tookMs < 250 ? last.bytes * 2 : last.tookMs > 1000 ? last.bytes / 2 : last.bytes
  return Math.max(leastWriteBytes, Math.min(wanted, bytesSent / 16, mostWriteBytes) & ~(leastWriteBytes - 1))
}

/** An answer that is ready to be sent. */
export interface Download {
  readonly status: AnswerPlan['status']
  readonly headers: AnswerPlan['headers']
  /** Sends it, then lets go of the artifact. To cut it, destroy the response. Never throws. Call it or `cancel`, once. */
  send(response: ServerResponse, options?: SendOptions): Promise<DownloadOutcome>
  /** Lets go of the artifact without an answer. */
  cancel(): void
}

/** Decides the answer and reads its first slice; throws `not-found` or what the read failed with. */
export async function prepareDownload(
  cache: ArtifactCache,
  request: ArtifactRequest,
  artifact: Pick<Artifact, 'digest' | 'size' | 'mediaType'>,
): Promise<Download> {
  const lease = await cache.acquire(artifact.digest)
  try {
    if (lease.size !== artifact.size) {
      throw new PawlError(
        'digest-mismatch',
        `artifact ${artifact.digest} has ${lease.size} bytes, not ${artifact.size}`,
      )
    }
    const plan = planAnswer(request, artifact)
    const first = plan.body === undefined ? undefined : await firstSlice(lease, plan.body)
    return {
      status: plan.status,
      headers: plan.headers,
      cancel: () => lease.release(),
      send: (response, options = {}) =>
        sendAnswer(response, plan, { lease, first, budget: cache.writes }, options).finally(() =>
          lease.release(),
        ),
    }
  } catch (error) {
    lease.release()
    throw error
  }
}

function firstSlice(lease: ArtifactLease, { start, end }: ByteRange): Buffer | Promise<Buffer> {
  return lease.slice(start, Math.min(end, start + leastWriteBytes))
}

interface Source {
  readonly lease: ArtifactLease
  readonly first: Buffer | undefined
  readonly budget: WriteBudget
}

/** The least that a reader gets is not counted: it is what each connection may have. */
function takeLarge(budget: WriteBudget, bytes: number): () => void {
  return bytes > leastWriteBytes ? budget.take(bytes) : () => undefined
}

async function sendAnswer(
  response: ServerResponse,
  plan: AnswerPlan,
  { lease, first, budget }: Source,
  options: SendOptions,
): Promise<DownloadOutcome> {
  const writer = openWriter(response)
  const { lane } = options
  const now = options.now ?? performance.now.bind(performance)
  let bytesSent = 0
  let writeBytes = leastWriteBytes
  try {
    response.writeHead(plan.status, { ...options.headers, ...plan.headers })
    const { start, end } = plan.body ?? { start: 0, end: 0 }
    while (bytesSent < end - start) {
      const position = start + bytesSent
      if (lane !== undefined) writeBytes = Math.min(writeBytes, lane.most())
      const bytes =
        bytesSent === 0 && first ? first : await lease.slice(position, Math.min(end, position + writeBytes))
      const turn = lane?.take(bytes.length)
      if (turn !== undefined && !(await writer.wait(turn))) break
      const before = now()
      const free = takeLarge(budget, bytes.length)
      const written = writer.write(bytes)
      const behind = position + bytes.length
      // For those who keep up, the next is read while this one is sent.
      if (writeBytes > leastWriteBytes && behind < end) lease.readAhead(behind)
      const taken = await written
      free()
      if (!taken) break
      bytesSent += bytes.length
      const wanted = nextWriteBytes({ bytes: writeBytes, tookMs: now() - before }, bytesSent)
      writeBytes = Math.max(leastWriteBytes, Math.min(wanted, budget.most() & ~(leastWriteBytes - 1)))
      options.onProgress?.(bytesSent)
    }
    return { bytesSent, completed: bytesSent === end - start && (await writer.end()) }
  } catch (error) {
    // A body that ends early on a connection that stays would be taken for a slow one: cut it, and the client knows at once.
    response.destroy()
    return { bytesSent, completed: false, error }
  }
}

interface Writer {
  /** Waits for a turn; false when the connection is gone before. */
  wait(turn: Promise<void>): Promise<boolean>
  /** Resolves when the socket took the bytes; false when the connection is gone. */
  write(bytes: Buffer): Promise<boolean>
  end(): Promise<boolean>
}

/** One `close` listener for a whole transfer: the callbacks of a socket that was destroyed may never come. */
function openWriter(response: ServerResponse): Writer {
  let settle: ((taken: boolean) => void) | undefined
  let begun = false
  response.once('close', () => settle?.(false))
  response.once('error', () => settle?.(false))
  const settled = (act: (done: (error?: Error | null) => void) => void): Promise<boolean> => {
    if (response.destroyed) return Promise.resolve(false)
    return new Promise((resolve) => {
      settle = resolve
      act((error) => resolve(error === undefined || error === null))
    })
  }
  return {
    wait: (turn) => settled((done) => void turn.then(() => done())),
    write(bytes) {
      // Past HTTP's own layer, whose write costs as much again as the socket's: it has sent the head, and the length is told there.
      const { socket } = response
      const to = begun && socket instanceof Socket ? socket : response
      begun = true
      return settled((done) => to.write(bytes, done))
    },
    end: () => settled((done) => response.end(done)),
  }
}
