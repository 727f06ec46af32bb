import { type Readable, Transform } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ErrorCode, isPawlError, type PawlError } from '../errors.ts'
import type { Api } from './api.ts'
import { formatSize } from './format.ts'
import { becameShorter, type ImageFile, streamFile } from './image-files.ts'
import type { Io } from './io.ts'
import { type Progress, showProgress } from './progress.ts'

/** What tests may set. */
export interface SendOptions {
  /** Waits between two tries. */
  readonly pause?: (milliseconds: number) => Promise<unknown>
}

/** Tries without a byte more at the server until the command gives up: about a minute with the pauses between them. */
const maxTries = 6
const longestPauseMilliseconds = 30_000

/** What may be gone the next time: the connection broke, the server is full or restarts, or an earlier try still holds the upload. */
const passing: ReadonlySet<ErrorCode> = new Set([
  'unreachable',
  'overloaded',
  'store-unavailable',
  'conflict',
])

/**
 * Sends a file, or the rest of it that the server does not have, and shows how far it is. When the connection breaks it goes
 * on by itself; when the command ends, the next run goes on.
 */
export async function sendArtifact(
  api: Api,
  io: Io,
  file: ImageFile,
  { pause = sleep }: SendOptions = {},
): Promise<void> {
  const path = `/artifacts/sha256/${file.digest}`
  const progress = showProgress(io, file.role, file.size)
  await clearing(progress, async () => {
    const first = await api.sent(path)
    if (first.whole) {
      progress.done(`${formatSize(file.size)}, there already`)
      return
    }
    await sendRest(api, file, first.bytes, progress, pause)
    const earlier = first.bytes > 0 ? `, ${formatSize(first.bytes)} of it earlier` : ''
    progress.done(`${formatSize(file.size)}, sent${earlier}`)
  })
}

async function sendRest(
  api: Api,
  file: ImageFile,
  from: number,
  progress: Progress,
  pause: NonNullable<SendOptions['pause']>,
): Promise<void> {
  const path = `/artifacts/sha256/${file.digest}`
  let offset = goOnAt(from, file)
  for (let tries = 1; ; tries += 1) {
    try {
      return await sendFrom(api, path, file, offset, progress)
    } catch (error) {
      // What lay at the server, perhaps through a power cut, was not the beginning of this file, and is gone.
      const beganWrong = isPawlError(error, 'digest-mismatch') && offset > 0
      if (tries >= maxTries || !(beganWrong || isPassing(error))) throw error
      const milliseconds = beganWrong ? 0 : Math.min(1000 * 2 ** (tries - 1), longestPauseMilliseconds)
      progress.note(`${(error as PawlError).message}: trying again in ${milliseconds / 1000} s`) // by the line above
      await pause(milliseconds)
      const now = await whereToGoOn(api, path, offset)
      if (now.whole) return
      if (now.bytes > offset) tries = 0
      offset = goOnAt(now.bytes, file)
    }
  }
}

/** More than the file has is not of this file. */
function goOnAt(bytes: number, file: ImageFile): number {
  return bytes > file.size ? 0 : bytes
}

/** A server that does not answer now may answer the upload itself: that fails with the same error if it does not. */
async function whereToGoOn(
  api: Api,
  path: string,
  offset: number,
): Promise<{ whole: boolean; bytes: number }> {
  try {
    return await api.sent(path)
  } catch (error) {
    if (!isPassing(error)) throw error
    return { whole: false, bytes: offset }
  }
}

async function sendFrom(
  api: Api,
  path: string,
  file: ImageFile,
  offset: number,
  progress: Progress,
): Promise<void> {
  progress.set(offset)
  const body = counted(await streamFile(file, offset), file, offset, progress)
  await api.upload(path, body, { offset, size: file.size })
}

function isPassing(error: unknown): boolean {
  return isPawlError(error) && passing.has(error.code)
}

/** Counts what passes. A file that ends early would leave the server waiting for the rest: that is an error here. */
function counted(source: Readable, file: ImageFile, offset: number, progress: Progress): Transform {
  let missing = file.size - offset
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      missing -= chunk.length
      progress.add(chunk.length)
      callback(null, chunk)
    },
    flush: (callback) => callback(missing === 0 ? null : becameShorter(file)),
  })
  source.once('error', (error) => counter.destroy(error))
  // A server that stops reading ends the counter; the file must not stay open behind it.
  counter.once('close', () => source.destroy())
  return source.pipe(counter)
}

/** Takes the bar away before an error is told. */
export async function clearing<T>(progress: Progress, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    progress.clear()
    throw error
  }
}
