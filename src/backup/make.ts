import { randomBytes } from 'node:crypto'
import { constants, existsSync } from 'node:fs'
import { link, open, readdir, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { zstdCompressSync } from 'node:zlib'
import type { Kysely } from 'kysely'
import type { Config } from '../config.ts'
import { isPawlError, PawlError } from '../errors.ts'
import { checkDataFolder } from '../pki/data-folder.ts'
import { syncFolder } from '../pki/key-file.ts'
import { openAsItIs } from '../storage/database.ts'
import { appendEvent } from '../storage/events.ts'
import { appliedMigrations, knownMigrations } from '../storage/migrate.ts'
import { openSnapshot, type Snapshot } from '../storage/snapshot.ts'
import { type ArtifactLinks, linkArtifacts } from './artifact-links.ts'
import { type BackupHeader, chunkBytes, dataName, headerName, isLeftOut, manifestName } from './format.ts'
import { openWriter, type TarWriter } from './tar-writer.ts'

/** What a backup is made of, and where it goes. */
export interface BackupOptions {
  readonly config: Config
  readonly version: string
  readonly now: Date
  readonly withArtifacts: boolean
  /** A file that is not there yet, or a stream. */
  readonly to: string | Writable
  /** Tells stale work of a killed backup from that of one that runs. */
  readonly processId: number
  readonly isAlive: (processId: number) => boolean
  /** Called behind each member; what it throws ends the backup. */
  readonly faults?: (member: string) => void
}

/** What a backup holds. */
export interface BackupMade {
  readonly createdAt: string
  readonly bytes: number
  readonly members: number
  readonly rows: number
  readonly artifacts: BackupHeader['artifacts']
  readonly artifactCount: number
  /** Artifacts whose bytes on the disk are not what their name says. */
  readonly damaged: readonly string[]
  /** Artifacts that an image names and that are not in the store. */
  readonly missing: readonly string[]
  /** Files of the data folder that are not in it: links, devices, names that no backup has. */
  readonly leftOut: readonly string[]
}

/**
 * Makes a backup while the server runs, and keeps nobody waiting. Artifacts are held by hard links before the database is
 * looked at: whatever it names then is there, or is too young to be pruned, so no prune meanwhile takes it away.
 */
export async function makeBackup(options: BackupOptions): Promise<BackupMade> {
  const { config } = options
  checkDataFolder(config.dataDir)
  const place = artifactsPlace(options)
  const links = place.folder === undefined ? undefined : await linkArtifacts(place.folder, options)
  try {
    const made = await (typeof options.to === 'string'
      ? writeFile(options, options.to, place.artifacts, links)
      : write(options, options.to, place.artifacts, links))
    await record(options, made)
    return made
  } finally {
    await links?.remove()
  }
}

/** On the record, which also tells `pawl doctor` how old the last one is. A database of another version is left as it is. */
async function record({ config, now }: BackupOptions, made: BackupMade): Promise<void> {
  const storage = openAsItIs(config.database)
  try {
    const applied = await appliedMigrations(storage.db as unknown as Kysely<unknown>)
    if (applied.join() !== knownMigrations.join()) return
    const { bytes, rows, artifacts, artifactCount } = made
    await storage.transaction((tx) =>
      appendEvent(tx, {
        ...{ kind: 'backup-made', at: now, detail: { bytes, rows, artifacts, artifactCount } },
        ...{ node: null, session: null, source: null, actor: 'operator:backup' },
      }),
    )
  } finally {
    await storage.close()
  }
}

function artifactsPlace({ config, withArtifacts }: BackupOptions): {
  artifacts: BackupHeader['artifacts']
  folder?: string
} {
  const place = config.artifacts ?? { kind: 'folder', path: join(config.dataDir, 'artifacts') }
  if (place.kind !== 'folder') return { artifacts: 'elsewhere' }
  return withArtifacts ? { artifacts: 'included', folder: place.path } : { artifacts: 'left-out' }
}

/** Under another name until it is whole and durable, and never over a file that is there. */
async function writeFile(
  options: BackupOptions,
  file: string,
  artifacts: BackupHeader['artifacts'],
  links: ArtifactLinks | undefined,
): Promise<BackupMade> {
  if (existsSync(file)) throw there(file)
  const folder = dirname(resolve(file))
  const temporary = join(folder, `.${basename(file)}.${randomBytes(8).toString('hex')}.tmp`)
  const handle = await open(temporary, 'wx', 0o600).catch((cause: unknown) => {
    throw notWritable(file, cause)
  })
  try {
    const stream = handle.createWriteStream({ flush: true })
    const made = await write(options, stream, artifacts, links).finally(() => stream.destroy())
    await link(temporary, file)
    syncFolder(folder)
    return made
  } catch (cause) {
    const code = (cause as { code?: unknown } | null)?.code
    if (code === 'EEXIST') throw there(file)
    throw isPawlError(cause) ? cause : notWritable(file, cause)
  } finally {
    await rm(temporary, { force: true })
  }
}

function there(file: string): PawlError {
  return new PawlError('exists', `${file} is there already`, { hint: 'name a new file' })
}

function notWritable(file: string, cause: unknown): PawlError {
  const code = String((cause as { code?: unknown } | null)?.code ?? 'unknown')
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new PawlError('disk-full', `no room left to write ${file}`, { hint: 'free some space', cause })
  if (!/^E[A-Z]+$/.test(code)) throw cause
  return new PawlError('invalid', `${file} cannot be written (${code})`, {
    hint: 'name a folder that this user can write to',
    cause,
  })
}

async function write(
  options: BackupOptions,
  to: Writable,
  artifacts: BackupHeader['artifacts'],
  links: ArtifactLinks | undefined,
): Promise<BackupMade> {
  const writer = openWriter(to, options.now, options.faults)
  const snapshot = await openSnapshot(options.config.database)
  let rows: Record<string, number>
  try {
    const header: BackupHeader = {
      format: 'pawl.backup/v1',
      version: options.version,
      createdAt: options.now.toISOString(),
      database: snapshot.dialect,
      migrations: [...snapshot.migrations],
      artifacts,
    }
    await writer.add(headerName, Buffer.from(`${JSON.stringify(header, null, 2)}\n`))
    rows = await addRows(writer, snapshot, links)
  } finally {
    await snapshot.close()
  }
  const leftOut = await addFolder(writer, options.config.dataDir, '')
  const damaged = links === undefined ? [] : await addArtifacts(writer, links)
  const members = [...writer.members]
  await writer.add(manifestName, Buffer.from(JSON.stringify({ members, rows })))
  await writer.end()
  return {
    createdAt: options.now.toISOString(),
    bytes: writer.bytes(),
    members: members.length,
    rows: Object.values(rows).reduce((sum, count) => sum + count, 0),
    artifacts,
    artifactCount: members.filter(({ name }) => name.startsWith('artifacts/')).length,
    damaged,
    missing: links?.missing() ?? [],
    leftOut,
  }
}

/** What opens recorded traffic has no place in a backup: the next server makes another. */
const leftOut: ReadonlySet<string> = new Set(['ticket_keys'])

/** Every row, in pieces that fit in memory; their sizes are known before they are written, so no copy on disk is needed. */
async function addRows(
  writer: TarWriter,
  snapshot: Snapshot,
  links: ArtifactLinks | undefined,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  let chunks = 0
  for (const table of snapshot.tables.filter((name) => !leftOut.has(name))) {
    let lines: string[] = []
    let size = 0
    counts[table] = 0
    const flush = async (): Promise<void> => {
      chunks += 1
      const body = `${JSON.stringify({ table })}\n${lines.join('\n')}\n`
      await writer.add(`database/${String(chunks).padStart(5, '0')}.ndjson.zst`, zstdCompressSync(body))
      lines = []
      size = 0
    }
    for await (const rows of snapshot.rows(table)) {
      if (table === 'image_artifacts') await links?.need(rows.map(({ digest }) => String(digest)))
      for (const row of rows) {
        const line = JSON.stringify(row)
        lines.push(line)
        size += line.length
        if (size >= chunkBytes) await flush()
      }
      counts[table] += rows.length
    }
    if (lines.length > 0) await flush()
  }
  return counts
}

/** Regular files only: what a link leads to is not ours to carry along. */
async function addFolder(writer: TarWriter, dataDir: string, path: string): Promise<string[]> {
  const leftOut: string[] = []
  const entries = await readdir(join(dataDir, path), { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const own = path === '' ? entry.name : `${path}/${entry.name}`
    if ((path === '' && isLeftOut(entry.name)) || /^\..*\.tmp$/.test(entry.name)) continue
    const name = dataName(own)
    if (entry.isDirectory() && name !== undefined) leftOut.push(...(await addFolder(writer, dataDir, own)))
    else if (entry.isFile() && name !== undefined) await writer.add(name, await readSmall(join(dataDir, own)))
    else leftOut.push(own)
  }
  return leftOut
}

const maxFileBytes = 16 * 2 ** 20

async function readSmall(file: string): Promise<Buffer> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { size } = await handle.stat()
    if (size > maxFileBytes) {
      throw new PawlError(
        'too-large',
        `${file} has ${size} bytes; a backup takes ${maxFileBytes} of a file here`,
        {
          hint: 'move it out of the data folder',
        },
      )
    }
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

/** What an artifact's bytes are is found as they are copied; one that went bad on the disk is copied as it is, and told. */
async function addArtifacts(writer: TarWriter, links: ArtifactLinks): Promise<string[]> {
  const damaged: string[] = []
  for (const { digest, path } of links.all()) {
    const sha256 = await writer.addFile(`artifacts/sha256/${digest}`, path)
    if (sha256 !== digest) damaged.push(digest)
  }
  return damaged
}
