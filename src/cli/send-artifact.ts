import { type Readable, Transform } from 'node:stream'
import type { Api } from './api.ts'
import { formatSize } from './format.ts'
import { becameShorter, type ImageFile, streamFile } from './image-files.ts'
import type { Io } from './io.ts'
import { type Progress, showProgress } from './progress.ts'

/** Sends a file that the server does not have, and shows how far it is. */
export async function sendArtifact(api: Api, io: Io, file: ImageFile): Promise<void> {
  const path = `/artifacts/sha256/${file.digest}`
  const progress = showProgress(io, file.role, file.size)
  await clearing(progress, async () => {
    if (await api.has(path)) {
      progress.done(`${formatSize(file.size)}, there already`)
      return
    }
    await api.upload(path, counted(await streamFile(file), file, progress), file.size)
    progress.done(`${formatSize(file.size)}, sent`)
  })
}

/** Counts what passes. A file that ends early would leave the server waiting for the rest: that is an error here. */
function counted(source: Readable, file: ImageFile, progress: Progress): Transform {
  let missing = file.size
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
