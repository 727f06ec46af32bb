import { publicFingerprint } from '../../src/ipxe/examine.ts'

/** What a made-up binary has in it. */
export interface FakeIpxe {
  readonly machine?: number
  /** PE subsystem; 10 is an EFI application. */
  readonly subsystem?: number
  readonly words?: readonly string[]
  /** Fingerprints, in hex. */
  readonly roots?: readonly string[]
  readonly signed?: boolean
}

/** The words of iPXE 2.0.0 as Debian builds it. */
export const words2 = ['iPXE\0\0\x002.0.0+dfsg-5', 'HTTPS', 'IPv6', 'vcreate', 'param', 'sha256sum']

/** A file with the headers of an EFI program and iPXE's words. No machine runs it. */
export function efiIpxe(of: FakeIpxe = {}): Buffer {
  const { machine = 0x8664, subsystem = 10, words = words2, roots = [publicFingerprint], signed = false } = of
  const header = Buffer.alloc(0x200)
  header.write('MZ', 0, 'latin1')
  header.writeUInt32LE(0x80, 0x3c)
  header.write('PE\0\0', 0x80, 'latin1')
  header.writeUInt16LE(machine, 0x84)
  header.writeUInt16LE(0x20b, 0x98)
  header.writeUInt16LE(subsystem, 0x98 + 68)
  header.writeUInt32LE(16, 0x98 + 108)
  if (signed) header.writeUInt32LE(0x600, 0x98 + 112 + 8 * 4 + 4)
  const texts = Buffer.from(`\0${words.join('\0\0')}\0`, 'latin1')
  return Buffer.concat([header, texts, ...roots.map((root) => Buffer.from(root, 'hex')), Buffer.alloc(64)])
}

/** A BIOS build as a Linux kernel, its version readable and the rest packed. */
export function lkrnIpxe(version = '2.0.0+dfsg-5'): Buffer {
  const bytes = Buffer.alloc(0x800)
  bytes.writeUInt16LE(0xaa55, 0x1fe)
  bytes.write('HdrS', 0x202, 'latin1')
  bytes.writeUInt16LE(0x80, 0x20e)
  bytes.write(`${version}\0`, 0x280, 'latin1')
  bytes.write('Installation failed - cannot continue\0', 0x400, 'latin1')
  return bytes
}

/** A BIOS build for the network, all packed. */
export function kpxeIpxe(): Buffer {
  const bytes = Buffer.alloc(0x800)
  bytes.write('ea0800c007', 0, 'hex')
  bytes.write('PXE->EB: \0Installation failed - cannot continue\0', 0x100, 'latin1')
  return bytes
}
