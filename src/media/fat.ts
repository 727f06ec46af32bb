/**
 * Writes a FAT16 file system, the one that every UEFI reads (UEFI 2.10, 13.3), from a list of files: no root, no tools, and
 * the same bytes for the same files. After Microsoft's "FAT: General Overview of On-Disk Format" 1.03; names that are not 8.3
 * get long names (VFAT) beside a short one.
 */
import { PawlError } from '../errors.ts'

/** One file to write. */
export interface MediaFile {
  /** `/`-separated, without one at the beginning. */
  readonly path: string
  readonly bytes: Uint8Array
}

/** What is told of the file system itself. */
export interface FatOptions {
  /** At most 11 characters, upper case. */
  readonly label: string
  readonly volumeId: number
  /** Where the partition begins on its disk, in sectors; boot sectors say so. */
  readonly startSector?: number
  /** At least so many bytes are left free, for what is written later. */
  readonly freeBytes?: number
}

export const sectorBytes = 512
const mebibyte = 2 ** 20
const reservedSectors = 1
const fatCount = 2
const rootEntries = 512
const rootSectors = (rootEntries * 32) / sectorBytes
/** The type of a FAT follows from this number alone: with fewer clusters it is FAT12, with more FAT32. */
const clusters = { min: 4085, max: 65524 }
const endOfChain = 0xffff
const attribute = { volume: 0x08, folder: 0x10, archive: 0x20, longName: 0x0f }
/** 2026-01-01 00:00, as everything in our images: any fixed time would do. */
const date = ((2026 - 1980) << 9) | (1 << 5) | 1

interface Folder {
  readonly folders: Map<string, Folder>
  readonly files: Map<string, Uint8Array>
}

interface Geometry {
  readonly sectors: number
  readonly sectorsPerCluster: number
  readonly fatSectors: number
}

/** The file system's bytes: a whole number of MiB. Throws `too-large` for more than FAT16 can hold. */
export function fatImage(files: readonly MediaFile[], options: FatOptions): Buffer {
  const root = treeOf(files)
  const geometry = geometryOf(files, options.freeBytes ?? 2 * mebibyte)
  const image = Buffer.alloc(geometry.sectors * sectorBytes)
  writeBootSector(image, geometry, options)
  const writer = openWriter(image, geometry)
  const label = entry(shortName(options.label.padEnd(11)), attribute.volume, 0, 0)
  const entries = Buffer.concat([label, writer.entriesOf(root, 0)])
  if (entries.length > rootEntries * 32)
    throw new PawlError('invalid', 'the medium has too many files at its root')
  entries.copy(image, writer.rootOffset)
  writer.finish()
  return image
}

function treeOf(files: readonly MediaFile[]): Folder {
  const root: Folder = { folders: new Map(), files: new Map() }
  for (const { path, bytes } of files) {
    const parts = path.split('/')
    const name = parts.pop() ?? ''
    let at = root
    for (const part of parts) {
      const next = at.folders.get(part) ?? { folders: new Map(), files: new Map() }
      at.folders.set(part, next)
      at = next
    }
    at.files.set(name, bytes)
  }
  return root
}

function geometryOf(files: readonly MediaFile[], freeBytes: number): Geometry {
  const content = files.reduce((sum, { bytes }) => sum + bytes.length + 4096, 0)
  const sectors = (Math.max(8, Math.ceil((content + freeBytes) / mebibyte)) * mebibyte) / sectorBytes
  for (const sectorsPerCluster of [2, 4, 8, 16, 32]) {
    const most = Math.floor(sectors / sectorsPerCluster)
    const fatSectors = Math.ceil(((most + 2) * 2) / sectorBytes)
    const count = Math.floor(
      (sectors - reservedSectors - fatCount * fatSectors - rootSectors) / sectorsPerCluster,
    )
    if (count >= clusters.min && count <= clusters.max) return { sectors, sectorsPerCluster, fatSectors }
  }
  throw new PawlError('too-large', `a medium of ${sectors * sectorBytes} bytes is more than FAT16 can hold`)
}

function writeBootSector(
  image: Buffer,
  { sectors, sectorsPerCluster, fatSectors }: Geometry,
  options: FatOptions,
): void {
  image.set([0xeb, 0x3c, 0x90], 0)
  image.write('PAWL    ', 3, 'latin1')
  image.writeUInt16LE(sectorBytes, 11)
  image.writeUInt8(sectorsPerCluster, 13)
  image.writeUInt16LE(reservedSectors, 14)
  image.writeUInt8(fatCount, 16)
  image.writeUInt16LE(rootEntries, 17)
  image.writeUInt16LE(sectors < 0x10000 ? sectors : 0, 19)
  image.writeUInt8(0xf8, 21)
  image.writeUInt16LE(fatSectors, 22)
  image.writeUInt16LE(63, 24)
  image.writeUInt16LE(255, 26)
  image.writeUInt32LE(options.startSector ?? 0, 28)
  image.writeUInt32LE(sectors < 0x10000 ? 0 : sectors, 32)
  image.writeUInt8(0x80, 36)
  image.writeUInt8(0x29, 38)
  image.writeUInt32LE(options.volumeId >>> 0, 39)
  image.write(options.label.padEnd(11), 43, 'latin1')
  image.write('FAT16   ', 54, 'latin1')
  image.writeUInt16LE(0xaa55, 510)
}

function openWriter(image: Buffer, { sectorsPerCluster, fatSectors }: Geometry) {
  const clusterBytes = sectorsPerCluster * sectorBytes
  const rootOffset = (reservedSectors + fatCount * fatSectors) * sectorBytes
  const dataOffset = rootOffset + rootSectors * sectorBytes
  const fat = Buffer.alloc(fatSectors * sectorBytes)
  fat.writeUInt16LE(0xfff8, 0)
  fat.writeUInt16LE(endOfChain, 2)
  let next = 2

  /** Clusters one after the other; none for nothing. */
  function allocate(size: number): number {
    const count = Math.ceil(size / clusterBytes)
    if (count === 0) return 0
    const first = next
    next += count
    for (let cluster = first; cluster < next; cluster += 1)
      fat.writeUInt16LE(cluster === next - 1 ? endOfChain : cluster + 1, cluster * 2)
    return first
  }

  function write(cluster: number, bytes: Uint8Array): void {
    if (cluster > 0) image.set(bytes, dataOffset + (cluster - 2) * clusterBytes)
  }

  function entriesOf(folder: Folder, own: number): Buffer {
    const taken = new Set<string>()
    const entries: Buffer[] = []
    for (const [name, child] of folder.folders) {
      const cluster = allocate(sizeOfFolder(child))
      entries.push(...named(name, taken, attribute.folder, cluster, 0))
      const dots = [
        entry('.          ', attribute.folder, cluster, 0),
        entry('..         ', attribute.folder, own, 0),
      ]
      write(cluster, Buffer.concat([...dots, entriesOf(child, cluster)]))
    }
    for (const [name, bytes] of folder.files) {
      const cluster = allocate(bytes.length)
      write(cluster, bytes)
      entries.push(...named(name, taken, attribute.archive, cluster, bytes.length))
    }
    return Buffer.concat(entries)
  }

  function finish(): void {
    for (let copy = 0; copy < fatCount; copy += 1)
      fat.copy(image, (reservedSectors + copy * fatSectors) * sectorBytes)
  }

  return { rootOffset, entriesOf, finish }
}

/** Two dots, and for each name its entry with as many as its long name needs. */
function sizeOfFolder(folder: Folder): number {
  const names = [...folder.folders.keys(), ...folder.files.keys()]
  return names.reduce((sum, name) => sum + 32 * (1 + longEntryCount(name)), 64)
}

function longEntryCount(name: string): number {
  return isShort(name) ? 0 : Math.ceil(name.length / 13)
}

function isShort(name: string): boolean {
  return /^[A-Z0-9_-]{1,8}(\.[A-Z0-9_-]{1,3})?$/.test(name)
}

function named(name: string, taken: Set<string>, kind: number, cluster: number, size: number): Buffer[] {
  const short = shortFor(name, taken)
  return [...longEntries(name, short), entry(short, kind, cluster, size)]
}

/** 11 characters, padded; `NAME~1` for what is no short name by itself. */
function shortFor(name: string, taken: Set<string>): string {
  const dot = name.lastIndexOf('.')
  const clean = (text: string): string => text.toUpperCase().replace(/[^A-Z0-9_-]/g, '')
  const base = clean(dot > 0 ? name.slice(0, dot) : name)
  const extension = clean(dot > 0 ? name.slice(dot + 1) : '')
    .slice(0, 3)
    .padEnd(3)
  if (isShort(name)) return claim(base.padEnd(8) + extension, taken)
  for (let number = 1; ; number += 1) {
    const tail = `~${number}`
    const short = (base.slice(0, 8 - tail.length) + tail).padEnd(8) + extension
    if (!taken.has(short)) return claim(short, taken)
  }
}

function claim(short: string, taken: Set<string>): string {
  taken.add(short)
  return short
}

function shortName(text: string): string {
  return text.slice(0, 11)
}

function entry(short: string, kind: number, cluster: number, size: number): Buffer {
  const bytes = Buffer.alloc(32)
  bytes.write(short, 0, 'latin1')
  bytes.writeUInt8(kind, 11)
  for (const offset of [16, 18, 24]) bytes.writeUInt16LE(date, offset)
  bytes.writeUInt16LE(cluster, 26)
  bytes.writeUInt32LE(size, 28)
  return bytes
}

/** The parts of a long name, the last one first. */
function longEntries(name: string, short: string): Buffer[] {
  const count = longEntryCount(name)
  const checksum = [...Buffer.from(short, 'latin1')].reduce(
    (sum, byte) => (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff,
    0,
  )
  const padded = Buffer.alloc(count * 26, 0xff)
  padded.write(`${name}\0`.slice(0, count * 13), 0, 'utf16le')
  return Array.from({ length: count }, (_, index) => {
    const number = count - index
    const part = padded.subarray((number - 1) * 26, number * 26)
    const bytes = Buffer.alloc(32)
    bytes.writeUInt8(number | (index === 0 ? 0x40 : 0), 0)
    part.copy(bytes, 1, 0, 10)
    bytes.writeUInt8(attribute.longName, 11)
    bytes.writeUInt8(checksum, 13)
    part.copy(bytes, 14, 10, 22)
    part.copy(bytes, 28, 22, 26)
    return bytes
  })
}
