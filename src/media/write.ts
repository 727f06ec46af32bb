import { randomBytes } from 'node:crypto'
import { constants, existsSync } from 'node:fs'
import { lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { PawlError } from '../errors.ts'
import { syncFolder } from '../pki/key-file.ts'
import type { MediaFile } from './fat.ts'

/** Where a medium goes: begun before anything is issued for it, so that no secret is made that cannot be written down. */
export interface MediaTarget {
  /** Takes the room that the medium needs: on a full disk it fails here. */
  reserve(draft: Buffer | readonly MediaFile[]): Promise<void>
  /** Puts the medium in its place, whole. */
  finish(content: Buffer | readonly MediaFile[]): Promise<void>
  /** Takes away what was begun. */
  abandon(): Promise<void>
}

/**
 * Begins a file, or a folder with `asFolder`, under another name beside its own: a rename puts it in place. All of it is the
 * owner's alone (0600, folders 0700). Throws `exists` for what is there already, unless `force`.
 */
export async function openTarget(
  path: string,
  options: { readonly asFolder: boolean; readonly force: boolean },
): Promise<MediaTarget> {
  const target = resolve(path)
  if (existsSync(target) && !options.force) {
    throw new PawlError('exists', `${path} exists already`, {
      hint: 'name a new one, or give --force to replace it',
    })
  }
  if (existsSync(target)) await checkReplaceable(target, path, options.asFolder)
  const temporary = join(dirname(target), `.${basename(target)}.${randomBytes(8).toString('hex')}.tmp`)
  const write = options.asFolder ? writeFolder : writeFile
  try {
    if (options.asFolder) await mkdir(temporary, { mode: 0o700 })
    else await (await open(temporary, 'wx', 0o600)).close()
  } catch (cause) {
    throw notWritable(path, cause)
  }
  const abandon = (): Promise<void> => rm(temporary, { recursive: true, force: true })
  return {
    abandon,
    async reserve(draft) {
      try {
        await write(temporary, draft)
      } catch (cause) {
        await abandon()
        throw notWritable(path, cause)
      }
    },
    async finish(content) {
      try {
        await write(temporary, content)
        await (options.asFolder ? replaceFolder(temporary, target) : rename(temporary, target))
        syncFolder(dirname(target))
      } catch (cause) {
        await abandon()
        throw notWritable(path, cause)
      }
    },
  }
}

/** A folder cannot be renamed over one that is not empty: that one steps aside, and comes back where the new one fails. */
async function replaceFolder(temporary: string, target: string): Promise<void> {
  if (!existsSync(target)) return rename(temporary, target)
  const aside = `${temporary.slice(0, -'.tmp'.length)}.old`
  await rename(target, aside)
  try {
    await rename(temporary, target)
  } catch (cause) {
    await rename(aside, target)
    throw cause
  }
  await rm(aside, { recursive: true, force: true })
}

/** `--force` replaces a medium, not somebody's folder or a disk. */
async function checkReplaceable(target: string, path: string, asFolder: boolean): Promise<void> {
  const handle = await open(target).catch((cause: unknown) => {
    throw notWritable(path, cause)
  })
  const stat = await handle.stat().finally(() => handle.close())
  if (asFolder && stat.isDirectory() && stat.dev !== (await lstat(dirname(target))).dev) {
    throw new PawlError('conflict', `${path} is a mounted file system: it cannot be replaced as a whole`, {
      hint: 'name a new folder; then copy what is in it to that file system',
    })
  }
  const isOurs = asFolder ? stat.isDirectory() && (await isMediumFolder(target)) : stat.isFile()
  if (isOurs) return
  throw new PawlError(
    'conflict',
    `${path} is ${asFolder ? 'not a folder of boot media' : 'not a plain file'}: it is not replaced`,
    {
      hint: asFolder
        ? 'name a new folder; then copy what is in it to the EFI system partition'
        : 'write a file, then copy that to the medium: dd if=FILE of=/dev/DISK bs=4M conv=fsync',
    },
  )
}

const mediumFile =
  /^(EFI(\/BOOT(\/BOOT[A-Z0-9]+\.EFI)?)?|autoexec\.ipxe|pawl(\/(medium\.txt|secret\.ipxe|client\.pem))?)$/

/** Whether a folder is empty, or has what a medium has and nothing else: an EFI system partition begins with `EFI`, too. */
async function isMediumFolder(folder: string): Promise<boolean> {
  if (!(await readdir(folder)).every((name) => mediumFile.test(name))) return false
  const names = await readdir(folder, { recursive: true })
  const isMarked = names.length === 0 || names.includes('pawl/medium.txt')
  return isMarked && names.every((name) => mediumFile.test(name))
}

function writeFile(temporary: string, content: Buffer | readonly MediaFile[]): Promise<void> {
  return writeFileIn(temporary, content as Buffer) // a medium that is no folder is one buffer
}

async function writeFolder(temporary: string, content: Buffer | readonly MediaFile[]): Promise<void> {
  for (const { path, bytes } of content as readonly MediaFile[]) {
    const file = join(temporary, path)
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    await writeFileIn(file, bytes)
  }
}

async function writeFileIn(file: string, bytes: Uint8Array): Promise<void> {
  // Written over in place where it was reserved: what is cut off first may not come back on a full disk.
  const handle = await open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  try {
    await handle.writeFile(bytes)
    await handle.truncate(bytes.length)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function notWritable(path: string, cause: unknown): PawlError {
  if (cause instanceof PawlError) return cause
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown'
  return new PawlError(code === 'ENOSPC' ? 'disk-full' : 'invalid', `${path} cannot be written (${code})`, {
    cause,
  })
}
