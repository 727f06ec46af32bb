import { createHash } from 'node:crypto'
import { mkdir, open, rm, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { type Extract, extract } from 'tar-stream'
import { maxArtifactBytes } from '../domain/image.ts'
import { isPawlError } from '../errors.ts'
import { syncFolder } from '../pki/key-file.ts'
import {
  type BackupHeader,
  type BackupManifest,
  damaged,
  kindOf,
  type Member,
  maxMemberBytes,
  maxMembers,
  parseHeader,
  parseManifest,
} from './format.ts'

/** A backup in a folder of its own, every byte of it checked; its files have the names of its members. */
export interface Unpacked {
  readonly header: BackupHeader
  readonly manifest: BackupManifest
  /** Artifacts that were bad on the disk when the backup was made: they are not here. */
  readonly bad: readonly string[]
}

/** A member as tar-stream gives it. */
type Entry = Extract extends AsyncIterable<infer Member> ? Member : never

/** What is known of a file while it is read. */
interface State {
  readonly folder: string
  readonly room: number
  readonly read: Map<string, Member>
  readonly folders: Set<string>
  total: number
  header?: BackupHeader
  manifest?: BackupManifest
}

/**
 * Unpacks a backup into an empty folder. Whoever wrote the file may be an enemy: only plain files are taken, only under the
 * names that a backup has, each once, none larger than it may be or than the disk has room for. Throws `invalid`.
 */
export async function unpack(from: Readable, folder: string): Promise<Unpacked> {
  const { bavail, bsize } = await statfs(folder)
  const state: State = { folder, room: bavail * bsize, read: new Map(), folders: new Set([folder]), total: 0 }
  const tar = extract()
  const fed = feed(from, tar)
  try {
    for await (const entry of tar) await take(state, entry)
    await fed
  } catch (error) {
    if (isPawlError(error)) throw error
    const code = (error as { code?: unknown } | null)?.code
    if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) throw error
    throw damaged(error instanceof Error ? error.message.toLowerCase() : 'it is not a tar file')
  } finally {
    from.destroy()
  }
  for (const own of [...state.folders].sort().reverse()) syncFolder(own)
  return finish(state)
}

/** tar-stream is no stream of Node's: it is given one piece after the other, and what goes wrong is what its reader is told. */
async function feed(from: Readable, tar: Extract): Promise<void> {
  try {
    for await (const data of from) {
      if (tar.destroyed) return
      if (!tar.write(data))
        await new Promise<void>((resolve) => void tar.once('drain', resolve).once('close', resolve))
    }
    tar.end(null)
  } catch (error) {
    tar.destroy(error instanceof Error ? error : new Error(String(error)))
  }
}

async function take(state: State, entry: Entry): Promise<void> {
  const { name, type, size = 0 } = entry.header
  const shown = JSON.stringify(String(name).slice(0, 200))
  const kind = kindOf(name)
  if (type !== 'file') throw damaged(`${shown} is a ${String(type)}, not a file`)
  if (kind === undefined) throw damaged(`${shown} is no name of a backup's`)
  if (state.read.has(name)) throw damaged(`${shown} is in it twice`)
  if (state.manifest !== undefined) throw damaged(`${shown} comes behind its end`)
  if ((kind === 'header') !== (state.read.size === 0)) throw damaged('it does not begin with its header')
  if (state.read.size >= maxMembers) throw damaged(`it has more than ${maxMembers} members`)
  if (size > (kind === 'artifact' ? maxArtifactBytes : maxMemberBytes)) throw damaged(`${shown} is too large`)
  state.total += size
  if (state.total > state.room) {
    throw damaged(
      `it needs ${state.total} bytes, and the disk has ${state.room} left`,
      'free some space, or take a larger disk',
    )
  }
  if (kind === 'header' || kind === 'manifest') await takeText(state, entry, kind)
  else state.read.set(name, { name, size, sha256: await store(state, entry) })
}

async function takeText(state: State, entry: Entry, kind: 'header' | 'manifest'): Promise<void> {
  const parts: Uint8Array[] = []
  for await (const part of entry) parts.push(part as Uint8Array)
  const bytes = Buffer.concat(parts)
  const text = bytes.toString('utf8')
  if (kind === 'manifest') {
    state.manifest = parseManifest(text)
    return
  }
  state.header = parseHeader(text)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  state.read.set(entry.header.name, { name: entry.header.name, size: bytes.length, sha256 })
}

/** Writes one member, durably; resolves with its SHA-256. */
async function store(state: State, entry: Entry): Promise<string> {
  const file = join(state.folder, entry.header.name)
  for (let folder = dirname(file); !state.folders.has(folder); folder = dirname(folder)) {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    state.folders.add(folder)
  }
  const hash = createHash('sha256')
  const handle = await open(file, 'wx', 0o600)
  try {
    for await (const part of entry) {
      hash.update(part as Uint8Array)
      await handle.writeFile(part as Uint8Array)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  return hash.digest('hex')
}

/** What was read must be what the manifest says, no more and no less. */
async function finish({ folder, header, manifest, read }: State): Promise<Unpacked> {
  if (header === undefined) throw damaged('it is empty, or no tar file')
  if (manifest === undefined) throw damaged('it was cut off: its end is missing')
  const bad: string[] = []
  const named = new Set<string>()
  for (const { name, size, sha256 } of manifest.members) {
    const found = read.get(name)
    named.add(name)
    if (found === undefined) throw damaged(`${JSON.stringify(name.slice(0, 200))} is missing`)
    if (found.size !== size || found.sha256 !== sha256) throw damaged(`the bytes of ${name} were changed`)
    if (kindOf(name) !== 'artifact' || name.endsWith(`/${sha256}`)) continue
    bad.push(name.slice(-64))
    await rm(join(folder, name))
  }
  for (const name of read.keys()) if (!named.has(name)) throw damaged(`${name} is not in its manifest`)
  return { header, manifest, bad }
}
