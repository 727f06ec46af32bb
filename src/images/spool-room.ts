/** How much room uploads may take. */
import { readdir, rm, stat, statfs } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { PawlError } from '../errors.ts'
import { isUnderWay, missingBytes } from './claims.ts'

/** Limits of a spool. */
export interface SpoolLimits {
  /** The largest artifact. */
  readonly artifactBytes: number
  /** All uploads together, under way and broken off, with what is still to come of them. */
  readonly spoolBytes: number
  /** What an upload must leave free on its disk. */
  readonly reserveBytes: number
  /** Uploads of one sender, under way and broken off. An image has three files, and several may be published at once. */
  readonly perSender: number
  /** How long an upload is kept after its last byte. */
  readonly keepMilliseconds: number
}

/** What holds where nothing else is said. */
export const spoolDefaults: SpoolLimits = {
  artifactBytes: 64 * 2 ** 30,
  spoolBytes: 64 * 2 ** 30,
  reserveBytes: 0,
  perSender: 16,
  keepMilliseconds: 24 * 3600_000,
}

interface Waiting {
  readonly path: string
  readonly size: number
  readonly lastByteAt: number
}

/**
 * Sees to it that an upload fits: a sender's oldest broken-off uploads give way to its new one; what others sent never
 * does. Throws `overloaded` or `disk-full`.
 */
export async function makeRoom(
  path: string,
  size: number | undefined,
  offset: number,
  limits: SpoolLimits,
): Promise<void> {
  const folder = dirname(path)
  const others = await listOthers(folder, path)
  const own = others.filter((other) => senderOf(other.path) === senderOf(path))
  const idle = own.filter((other) => !isUnderWay(other.path)).sort((a, b) => a.lastByteAt - b.lastByteAt)
  let count = own.length
  let bytes = others.reduce((sum, other) => sum + other.size, missingBytes(folder, path))
  const wanted = size ?? offset
  for (const oldest of idle) {
    if (count < limits.perSender && bytes + wanted <= limits.spoolBytes) break
    await rm(oldest.path, { force: true })
    count -= 1
    bytes -= oldest.size
  }
  if (count >= limits.perSender)
    throw full(`${count} uploads with this token are under way; ${limits.perSender} may be`)
  if (bytes + wanted > limits.spoolBytes)
    throw full(
      `uploads that are not done have ${bytes} bytes, and ${wanted} more are over ${limits.spoolBytes}`,
    )
  await checkDisk(folder, path, wanted - offset, limits.reserveBytes)
}

/** An upload that cannot fit is refused before it has filled the disk for everyone else. */
async function checkDisk(folder: string, path: string, coming: number, reserveBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize - missingBytes(folder, path) - reserveBytes
  if (coming <= free) return
  throw new PawlError(
    'disk-full',
    `no room on the server’s disk for ${coming} bytes more: ${Math.max(0, free)} may be used`,
    { hint: 'free space on that disk and send it again; what had arrived was removed', internal: folder },
  )
}

async function listOthers(folder: string, path: string): Promise<Waiting[]> {
  const others: Waiting[] = []
  for (const name of await readdir(folder)) {
    const other = join(folder, name)
    const found = other === path ? undefined : await stat(other).catch(() => undefined) // it may be done just now
    if (found !== undefined) others.push({ path: other, size: found.size, lastByteAt: found.mtimeMs })
  }
  return others
}

function senderOf(path: string): string {
  return basename(path).split('.')[0] ?? ''
}

function full(message: string): PawlError {
  return new PawlError('overloaded', message, {
    hint: 'uploads that broke off are removed a day after their last byte',
    retryAfterSeconds: 60,
  })
}
