import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { PawlError } from '../errors.ts'

/** Everything Pawl keeps here is a few kB: what is larger is not a key of ours. */
const maxBytes = 256 * 1024
const looseBits = 0o077
/** A group may read a key that another program renews: Kubernetes and `ssl-cert` do it so. */
const looseBitsOfShared = 0o037
const temporaryName = /^\.[\w.-]+\.[0-9a-f]{16}\.tmp$/

/**
 * Makes `file` with `content`, whole and durable, unless it is there already; returns whether it made it. Two writers at
 * once get one file: `link` fails where `rename` would overwrite, and a key that was overwritten is lost for ever.
 */
export function createFile(file: string, content: string | Uint8Array, mode: number): boolean {
  const temporary = writeTemporary(file, content, mode)
  try {
    linkSync(temporary, file)
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw notWritable(file, error)
  } finally {
    rmSync(temporary, { force: true })
  }
  syncFolder(dirname(file))
  return true
}

/** Makes a key or secret that only its owner can read, as `createFile` does: an existing one stays. */
export function writeSecretFile(file: string, content: string): boolean {
  return createFile(file, content, 0o600)
}

/** Puts `content` in the place of `file`, whole and durable: a reader sees the old bytes or the new ones. */
export function writeFileDurably(file: string, content: string | Uint8Array, mode: number): void {
  const temporary = writeTemporary(file, content, mode)
  try {
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw notWritable(file, error)
  }
  syncFolder(dirname(file))
}

/**
 * Reads a key or secret; undefined where there is none. Throws `key-unreadable` when others than its owner may read or
 * write it, or when another user owns it: such a key must be taken for known. Mode and owner are those of the opened
 * file, so it cannot be swapped in between.
 */
export function findSecretFile(file: string): string | undefined {
  return read(file, looseBits)
}

/** The same for a key that another program writes: the owner's group may read it. */
export function findSharedSecretFile(file: string): string | undefined {
  return read(file, looseBitsOfShared)
}

/** Reads a key or secret that must be there; throws `key-unreadable` with `hint` when it is not, or is open to others. */
export function readSecretFile(file: string, hint = 'restore it from a backup'): string {
  const text = findSecretFile(file)
  if (text === undefined) throw unreadable(file, 'is not there', hint)
  return text
}

/** Reads a file that is no secret, like a certificate; undefined where there is none. */
export function findPublicFile(file: string): string | undefined {
  return read(file, 0)
}

/** Whether what user `uid` owns is as good as our own: root could read and write it anyway. `own` is undefined on Windows. */
export function isOwnedByUs(uid: number, own = process.geteuid?.()): boolean {
  return own === undefined || uid === own || uid === 0
}

/** Removes what a killed writer left in `folder`. A temporary file is never the only copy of anything. */
export function removeTemporaries(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (isTemporary(name)) rmSync(join(folder, name), { force: true })
  }
}

/** Whether `name` is that of a file that a writer here had not finished. */
export function isTemporary(name: string): boolean {
  return temporaryName.test(name)
}

/** Makes the names in `folder` durable, as `fsync` of a file makes its bytes. */
export function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** In the same folder as `file`, since a rename is atomic only within one file system. */
function writeTemporary(file: string, content: string | Uint8Array, mode: number): string {
  const temporary = join(dirname(file), `.${basename(file)}.${randomBytes(8).toString('hex')}.tmp`)
  try {
    const descriptor = openSync(temporary, 'wx', mode)
    try {
      // The umask may have taken bits away from a public file; it is never looser than `mode` on the way here.
      fchmodSync(descriptor, mode)
      writeAll(descriptor, typeof content === 'string' ? Buffer.from(content) : content)
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    rmSync(temporary, { force: true })
    throw notWritable(file, error)
  }
  return temporary
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done)
}

function read(file: string, forbiddenBits: number): string | undefined {
  let descriptor: number
  try {
    // Without O_NONBLOCK, a FIFO in the place of a key would hang the start.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined
    throw unreadable(
      file,
      `cannot be read (${codeOf(cause)})`,
      'run pawl as the user that owns the data folder',
      cause,
    )
  }
  try {
    const stat = fstatSync(descriptor)
    if (!stat.isFile())
      throw unreadable(file, 'is not a file', 'move it away, or restore the file from a backup')
    if (stat.size > maxBytes) {
      throw unreadable(
        file,
        `is ${stat.size} bytes, over the limit of ${maxBytes}`,
        'restore the file from a backup',
      )
    }
    if ((stat.mode & forbiddenBits) !== 0) throw tooLoose(file, stat.mode & 0o777)
    if (forbiddenBits !== 0 && !isOwnedByUs(stat.uid)) throw notOurs(file, stat.uid)
    return readFileSync(descriptor, 'utf8')
  } finally {
    closeSync(descriptor)
  }
}

function tooLoose(file: string, mode: number): PawlError {
  const text = mode.toString(8).padStart(4, '0')
  return unreadable(
    file,
    `has mode ${text}: others than its owner can reach it`,
    `run chmod 600 ${file}; if others had access to this machine, take the key for known and replace it`,
  )
}

function notOurs(file: string, uid: number): PawlError {
  const hint = `run pawl as that user, or run chown on ${file} if you know who wrote it`
  return unreadable(file, `belongs to another user (uid ${uid})`, hint)
}

function unreadable(file: string, fault: string, hint: string, cause?: unknown): PawlError {
  return new PawlError('key-unreadable', `${file} ${fault}`, {
    hint,
    ...(cause === undefined ? {} : { cause }),
  })
}

function notWritable(file: string, cause: unknown): PawlError {
  const code = codeOf(cause)
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new PawlError('disk-full', `no room left to write ${file}`, {
      hint: 'free some space, then try again',
      cause,
    })
  }
  return new PawlError('key-unreadable', `${file} cannot be written (${code})`, {
    hint: 'check that the folder exists and belongs to the user that runs pawl',
    cause,
  })
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | null)?.code ?? 'unknown')
}
