/**
 * Writes an ISO 9660 image that boots: by UEFI from the FAT image inside it (El Torito), and where an ISOLINUX is given by a
 * BIOS too. Its first sector is that of a disk, so that the same bytes boot from a CD, a virtual CD and a USB stick.
 * After ECMA-119 and "El Torito" 1.0; no tools, and the same bytes for the same files.
 */
import { biosMessage, efiSystemPartition, masterBootRecord, noticeCode } from './disk.ts'
import { type MediaFile, sectorBytes } from './fat.ts'

const blockBytes = 2048
const ratio = blockBytes / sectorBytes
const at = { volume: 16, boot: 17, end: 18, catalog: 19, pathsLittle: 20, pathsBig: 21, root: 22, files: 23 }

/** What a BIOS boots: ISOLINUX, and the first 432 bytes of a disk that lead to it. */
export interface BiosLoader {
  readonly isolinux: Buffer
  /** `isohdpfx.bin` of syslinux. */
  readonly diskCode: Buffer
  /** Files that ISOLINUX reads, at the root: `NAME.EXT` in upper case. */
  readonly files: readonly MediaFile[]
}

interface Placed extends MediaFile {
  readonly block: number
}

/** The image. `label` is the volume's name, upper case. */
export function isoImage(fat: Buffer, label: string, diskId: number, bios?: BiosLoader): Buffer {
  const named: MediaFile[] = [
    ...(bios === undefined ? [] : [{ path: 'ISOLINUX.BIN', bytes: bios.isolinux }, ...bios.files]),
    { path: 'EFI.IMG', bytes: fat },
  ].sort((a, b) => (a.path < b.path ? -1 : 1))
  const { placed, blocks } = place(named)
  const find = (path: string): number => placed.find((file) => file.path === path)?.block ?? 0
  const image = Buffer.alloc(blocks * blockBytes)
  for (const { block, bytes } of placed) image.set(bytes, block * blockBytes)
  const efi = { block: find('EFI.IMG'), sectors: fat.length / sectorBytes }
  const isolinux = bios === undefined ? undefined : find('ISOLINUX.BIN')
  if (isolinux !== undefined) addBootInformation(image, isolinux, bios?.isolinux.length ?? 0)
  writeVolume(image, blocks, label)
  writePaths(image)
  rootFolder(placed).copy(image, at.root * blockBytes)
  bootCatalog(efi, isolinux).copy(image, at.catalog * blockBytes)
  diskSector(efi, isolinux, diskId, bios?.diskCode).copy(image, 0)
  return image
}

function place(files: readonly MediaFile[]): { placed: Placed[]; blocks: number } {
  let block = at.files
  const placed = files.map((file) => {
    const here = { ...file, block }
    block += Math.ceil(file.bytes.length / blockBytes)
    return here
  })
  return { placed, blocks: block }
}

/** ISOLINUX wants to be told where it is ("boot information table": 8 to 63 of its bytes). */
function addBootInformation(image: Buffer, block: number, length: number): void {
  const start = block * blockBytes
  let sum = 0
  for (let offset = 64; offset < length; offset += 4) sum = (sum + image.readUInt32LE(start + offset)) >>> 0 // behind the file are zeros
  image.fill(0, start + 8, start + 64)
  ;[at.volume, block, length, sum].forEach((value, index) => {
    image.writeUInt32LE(value, start + 8 + index * 4)
  })
}

/** Numbers are written in both byte orders. */
function both32(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt32LE(value, offset)
  bytes.writeUInt32BE(value, offset + 4)
}

function both16(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt16LE(value, offset)
  bytes.writeUInt16BE(value, offset + 2)
}

function writeVolume(image: Buffer, blocks: number, label: string): void {
  const volume = image.subarray(at.volume * blockBytes, (at.volume + 1) * blockBytes)
  volume.write('\x01CD001\x01', 0, 'latin1')
  volume.fill(' ', 8, 72)
  volume.write(label, 40, 'latin1')
  both32(volume, blocks, 80)
  both16(volume, 1, 120)
  both16(volume, 1, 124)
  both16(volume, blockBytes, 128)
  both32(volume, pathTable.length, 132)
  volume.writeUInt32LE(at.pathsLittle, 140)
  volume.writeUInt32BE(at.pathsBig, 148)
  record('\0', at.root, blockBytes, true).copy(volume, 156)
  volume.fill(' ', 190, 813)
  volume.write('PAWL', 446, 'latin1')
  // Four dates: made, changed, expires, effective; 2026-01-01, the last two not said.
  for (const offset of [813, 830]) volume.write('2026010100000000\0', offset, 'latin1')
  for (const offset of [847, 864]) volume.write('0000000000000000\0', offset, 'latin1')
  volume.writeUInt8(1, 881)
  const boot = image.subarray(at.boot * blockBytes)
  boot.write('\0CD001\x01EL TORITO SPECIFICATION', 0, 'latin1')
  boot.writeUInt32LE(at.catalog, 71)
  image.write('\xffCD001\x01', at.end * blockBytes, 'latin1')
}

/** The root alone. */
const pathTable = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0, 0])

function writePaths(image: Buffer): void {
  const little = image.subarray(at.pathsLittle * blockBytes)
  pathTable.copy(little)
  little.writeUInt32LE(at.root, 2)
  little.writeUInt16LE(1, 6)
  const big = image.subarray(at.pathsBig * blockBytes)
  pathTable.copy(big)
  big.writeUInt32BE(at.root, 2)
  big.writeUInt16BE(1, 6)
}

function rootFolder(files: readonly Placed[]): Buffer {
  const records = [
    record('\0', at.root, blockBytes, true),
    record('\x01', at.root, blockBytes, true),
    ...files.map(({ path, block, bytes }) => record(`${path};1`, block, bytes.length, false)),
  ]
  return Buffer.concat(records)
}

function record(name: string, block: number, size: number, isFolder: boolean): Buffer {
  const bytes = Buffer.alloc(33 + name.length + ((name.length + 1) % 2))
  bytes.writeUInt8(bytes.length, 0)
  both32(bytes, block, 2)
  both32(bytes, size, 10)
  bytes.set([2026 - 1900, 1, 1, 0, 0, 0, 0], 18)
  bytes.writeUInt8(isFolder ? 2 : 0, 25)
  both16(bytes, 1, 28)
  bytes.writeUInt8(name.length, 32)
  bytes.write(name, 33, 'latin1')
  return bytes
}

const platform = { bios: 0, efi: 0xef }

/** Which image boots which platform. The first is the default; where there is a BIOS one, UEFI has a section of its own. */
function bootCatalog(efi: { block: number; sectors: number }, isolinux: number | undefined): Buffer {
  const first = isolinux === undefined ? platform.efi : platform.bios
  const validation = Buffer.alloc(32)
  validation.set([1, first], 0)
  validation.write('PAWL', 4, 'latin1')
  validation.set([0x55, 0xaa], 30)
  let sum = 0
  for (let offset = 0; offset < 32; offset += 2) sum += validation.readUInt16LE(offset)
  validation.writeUInt16LE(-sum & 0xffff, 28)
  const forEfi = catalogEntry(efi.block, efi.sectors)
  if (isolinux === undefined) return Buffer.concat([validation, forEfi])
  const section = Buffer.alloc(32)
  section.set([0x91, platform.efi, 1, 0], 0)
  // ISOLINUX is given its first 2 KiB and loads the rest by itself.
  return Buffer.concat([validation, catalogEntry(isolinux, ratio), section, forEfi])
}

function catalogEntry(block: number, sectors: number): Buffer {
  const entry = Buffer.alloc(32)
  entry.writeUInt8(0x88, 0)
  // 16 bits: more is "as far as it goes", which firmware reads 0 as.
  entry.writeUInt16LE(sectors > 0xffff ? 0 : sectors, 6)
  entry.writeUInt32LE(block, 8)
  return entry
}

/** As a disk: the FAT image is a partition. The one in front of it may not overlap it, or EDK II takes neither. */
function diskSector(
  efi: { block: number; sectors: number },
  isolinux: number | undefined,
  diskId: number,
  diskCode: Buffer | undefined,
): Buffer {
  const partition = { type: efiSystemPartition, start: efi.block * ratio, sectors: efi.sectors }
  if (isolinux === undefined || diskCode === undefined)
    return masterBootRecord(noticeCode(biosMessage), diskId, [{ ...partition, active: true }])
  const code = Buffer.alloc(440)
  diskCode.copy(code, 0, 0, 432)
  code.writeUInt32LE(isolinux * ratio, 432)
  // Type 0x17, as isohybrid has it: no system takes that for its own.
  const front = { type: 0x17, start: 0, sectors: partition.start, active: true }
  return masterBootRecord(code, diskId, [front, partition])
}
