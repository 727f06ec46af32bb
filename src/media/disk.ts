import { sectorBytes } from './fat.ts'

/** The partition begins where every tool puts it: flash wants whole MiB. */
export const partitionStart = 2048
const efiSystemPartition = 0xef

/** What a BIOS shows that starts a medium for UEFI. */
const biosMessage = 'Pawl: this medium boots UEFI machines only. Turn on UEFI boot in the firmware.'

/** One partition of an MBR. */
export interface Partition {
  readonly type: number
  readonly start: number
  readonly sectors: number
  readonly active?: boolean
}

/** A raw disk image with one partition, the EFI system partition that firmware looks for on removable media. */
export function usbImage(fat: Buffer, diskId: number): Buffer {
  const mbr = masterBootRecord(noticeCode(biosMessage), diskId, [
    { type: efiSystemPartition, start: partitionStart, sectors: fat.length / sectorBytes, active: true },
  ])
  return Buffer.concat([mbr, Buffer.alloc((partitionStart - 1) * sectorBytes), fat])
}

/** The first sector of a disk: what a BIOS runs, and the table of partitions (UEFI 2.10, 5.2.1). */
export function masterBootRecord(code: Uint8Array, diskId: number, partitions: readonly Partition[]): Buffer {
  const sector = Buffer.alloc(sectorBytes)
  sector.set(code.subarray(0, 440), 0)
  sector.writeUInt32LE(diskId >>> 0, 440)
  partitions.forEach(({ type, start, sectors, active = false }, index) => {
    const at = 446 + index * 16
    // Cylinders, heads and sectors are those of "more than can be said": everybody reads the sector numbers.
    sector.set([active ? 0x80 : 0, 0xfe, 0xff, 0xff, type, 0xfe, 0xff, 0xff], at)
    sector.writeUInt32LE(start, at + 8)
    sector.writeUInt32LE(sectors, at + 12)
  })
  sector.writeUInt16LE(0xaa55, 510)
  return sector
}

/** Shows a line and stops: what a BIOS runs of a disk that has nothing for it. */
export function noticeCode(message: string): Buffer {
  const code = Buffer.from([
    ...[0xea, 0x05, 0x7c, 0x00, 0x00], // jmp 0:0x7c05, since some begin at 07c0:0
    ...[0x31, 0xc0, 0x8e, 0xd8], // ds = 0
    ...[0xbe, 0x00, 0x00], // si = the message
    ...[0xfc, 0xac], // next: al = [si++]
    ...[0x84, 0xc0, 0x74, 0x09], // until 0
    ...[0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10], // the BIOS writes it (INT 10h, AH 0Eh)
    ...[0xeb, 0xf1], // on to the next
    ...[0xf4, 0xeb, 0xfd], // hlt, again
  ])
  code.writeUInt16LE(0x7c00 + code.length, 10)
  return Buffer.concat([code, Buffer.from(`\r\n${message}\r\n\0`, 'latin1')])
}

export { biosMessage, efiSystemPartition }
