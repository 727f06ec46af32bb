/**
 * The iPXE binaries of a server: `DIR/ipxe` in the data folder, under the names they are served by, and `index.json`, which
 * says what each is. None is built here: they are Debian's (`pawl ipxe fetch`) or the operator's own (`pawl ipxe add`).
 *
 * What is served must be what was put there: each file is hashed when it is listed and when it is read, and one that does
 * not match the index, is a link, or is not there is refused by name, without taking the others along.
 */
import { createHash } from 'node:crypto'
import { constants, existsSync, mkdirSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import Type, { Compile, type Static } from '../domain/schema.ts'
import { PawlError } from '../errors.ts'
import { withFolderLock } from '../pki/folder-lock.ts'
import { findPublicFile, syncFolder, writeFileDurably } from '../pki/key-file.ts'
import { maxIpxeBytes } from './examine.ts'

const features = ['https', 'ipv6', 'vlan', 'params', 'digests', 'imgverify', 'ecdsa'] as const
/** What firmware and DHCP servers can ask for; the ending says what it is, and the index has none of these. */
export const ipxeNamePattern = '^[A-Za-z0-9][A-Za-z0-9_.-]{0,57}\\.(efi|kpxe|kkpxe|pxe|lkrn|0)$'
const name = Type.String({ pattern: ipxeNamePattern })
const hex = Type.String({ pattern: '^[0-9a-f]{64}$' })
const literals = <const T extends string>(values: readonly T[]) =>
  Type.Unsafe<T>(Type.Union(values.map((value) => Type.Literal(value))))

const entrySchema = Type.Object(
  {
    name,
    size: Type.Integer({ minimum: 1, maximum: maxIpxeBytes }),
    sha256: hex,
    platform: literals(['efi', 'bios']),
    arch: literals(['x86_64', 'i386', 'arm64', 'arm32', 'riscv64', 'loong64']),
    /** iPXE's version; none where the binary does not say and its package did not either. */
    version: Type.Union([Type.String({ maxLength: 100 }), Type.Null()]),
    /** None where it cannot be told: BIOS binaries are packed. */
    features: Type.Union([Type.Array(literals(features), { maxItems: 16 }), Type.Null()]),
    /** `root`: that one certificate (SHA-256 of its DER) and no other; `nobody`: it has no HTTPS; `unknown`: it cannot be told. */
    trust: Type.Union([
      Type.Object({ kind: Type.Literal('public') }, { additionalProperties: false }),
      Type.Object({ kind: Type.Literal('root'), fingerprint: hex }, { additionalProperties: false }),
      Type.Object({ kind: literals(['nobody', 'unknown']) }, { additionalProperties: false }),
    ]),
    /** Where it came from, in words: a Debian suite with the package's version, or a file. */
    source: Type.String({ maxLength: 300 }),
    addedAt: Type.String({ maxLength: 40 }),
  },
  { additionalProperties: false },
)
const maxBinaries = 200
const index = Compile(
  Type.Object(
    { version: Type.Literal(1), binaries: Type.Array(entrySchema, { maxItems: maxBinaries }) },
    { additionalProperties: false },
  ),
)

/** One binary as the index has it. */
export type IpxeEntry = Static<typeof entrySchema>

/** One binary whose bytes are what the index says. */
export interface IpxeBinary extends IpxeEntry {
  /** The file. */
  readonly path: string
}

/** What is in the folder. */
export interface IpxeListing {
  /** By name. */
  readonly binaries: readonly IpxeBinary[]
  /** What must not be served, and why, in words. */
  readonly faults: readonly { readonly name: string; readonly message: string }[]
}

/** Where the binaries of this data folder are. */
export function ipxeFolder(dataDir: string): string {
  return join(dataDir, 'ipxe')
}

/** Lists the folder, each file hashed. Throws `invalid` for an index that cannot be read; none is an empty folder. */
export async function listIpxe(dataDir: string): Promise<IpxeListing> {
  const binaries: IpxeBinary[] = []
  const faults: { name: string; message: string }[] = []
  for (const entry of readIndex(dataDir)) {
    const binary = { ...entry, path: join(ipxeFolder(dataDir), entry.name) }
    try {
      await readIpxe(binary)
      binaries.push(binary)
    } catch (error) {
      if (!(error instanceof PawlError)) throw error
      faults.push({ name: entry.name, message: error.message })
    }
  }
  return { binaries, faults }
}

/**
 * The bytes of a listed binary. Throws `digest-mismatch` for a file that is not what the index says, `not-found` for one
 * that is gone or a link: never bytes that nobody put there.
 */
export async function readIpxe(binary: IpxeBinary): Promise<Buffer> {
  const bytes = await readBounded(binary.path)
  if (bytes.length === binary.size && sha256(bytes) === binary.sha256) return bytes
  throw new PawlError('digest-mismatch', `${binary.path} is not what was added`, {
    hint: `add it again, or take it away with pawl ipxe remove ${binary.name}`,
  })
}

/** Reads a file that may be iPXE: no link, no device, not larger than one can be. */
export async function readBounded(path: string): Promise<Buffer> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: { code?: unknown }) => {
      const fault =
        cause.code === 'ENOENT'
          ? 'is not there'
          : cause.code === 'ELOOP'
            ? 'is a link, which is not followed'
            : `cannot be read (${String(cause.code)})`
      throw new PawlError('not-found', `${path} ${fault}`, { cause })
    },
  )
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw new PawlError('not-found', `${path} is no plain file`)
    if (stat.size > maxIpxeBytes)
      throw new PawlError('too-large', `${path} is ${stat.size} bytes, over the limit of ${maxIpxeBytes}`)
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

/**
 * Puts a binary into the folder, in the place of one of the same name. The file is there before the index names it; a crash
 * between the two leaves a file that does not match, which is refused until the command is run again.
 */
export function addIpxe(
  dataDir: string,
  entry: Omit<IpxeEntry, 'size' | 'sha256'>,
  bytes: Buffer,
): IpxeBinary {
  const added: IpxeEntry = { ...entry, size: bytes.length, sha256: sha256(bytes) }
  const folder = ipxeFolder(dataDir)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  syncFolder(dataDir)
  return withFolderLock(folder, () => addTo(dataDir, added, bytes))
}

function addTo(dataDir: string, added: IpxeEntry, bytes: Buffer): IpxeBinary {
  const folder = ipxeFolder(dataDir)
  const others = readIndex(dataDir).filter((other) => other.name !== added.name)
  // An index that cannot be read again would take all the others along.
  if (!index.Check({ version: 1, binaries: [...others, added] })) {
    throw new PawlError('invalid', `${JSON.stringify(added.name)} cannot be added to ${folder}`, {
      hint: `a name has up to 58 characters and its ending, and there are ${maxBinaries} binaries at most`,
    })
  }
  const path = join(folder, added.name)
  writeFileDurably(path, bytes, 0o644)
  writeIndex(dataDir, [...others, added])
  return { ...added, path }
}

/** Takes one out. Throws `not-found` where there is none of that name. */
export async function removeIpxe(dataDir: string, name: string): Promise<void> {
  const folder = ipxeFolder(dataDir)
  if (existsSync(folder)) withFolderLock(folder, () => removeFrom(dataDir, name))
  else removeFrom(dataDir, name)
}

function removeFrom(dataDir: string, name: string): void {
  const entries = readIndex(dataDir)
  if (!entries.some((entry) => entry.name === name)) {
    throw new PawlError('not-found', `there is no iPXE ${JSON.stringify(name)} in ${ipxeFolder(dataDir)}`, {
      hint: 'pawl ipxe list names them',
    })
  }
  writeIndex(
    dataDir,
    entries.filter((entry) => entry.name !== name),
  )
  rmSync(join(ipxeFolder(dataDir), name), { force: true })
}

const indexFile = 'index.json'

function readIndex(dataDir: string): IpxeEntry[] {
  const file = join(ipxeFolder(dataDir), indexFile)
  const text = findPublicFile(file)
  if (text === undefined) return []
  const value = parseJson(text)
  if (index.Check(value)) return value.binaries
  throw new PawlError('invalid', `${file} is not an index of iPXE binaries`, {
    hint: `move ${ipxeFolder(dataDir)} away and fetch or add the binaries again`,
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function writeIndex(dataDir: string, entries: readonly IpxeEntry[]): void {
  const binaries = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1))
  const text = `${JSON.stringify({ version: 1, binaries }, null, 2)}\n`
  writeFileDurably(join(ipxeFolder(dataDir), indexFile), text, 0o644)
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
