/**
 * Whether a file is an x86-64 bzImage, by its header. Offsets and flags are those of "The Linux/x86 Boot Protocol"
 * (Documentation/arch/x86/boot.rst in the kernel's source). A file that no loader can start must not be published.
 */
import { PawlError } from '../errors.ts'

/** How many bytes from a kernel's start the check reads. */
export const kernelHeaderBytes = 0x260

/** What a kernel says of itself. */
export interface KernelHeader {
  /** The boot protocol it speaks, as in the header: 2.15 is 0x020f. */
  readonly protocol: number
  /** The longest command line it takes, without the final NUL. */
  readonly maxCommandLineBytes: number
}

/** File types that are taken for a kernel by mistake, by their first bytes. */
const lookalikes: readonly (readonly [string, string])[] = [
  ['7f454c46', 'it is an ELF file: publish arch/x86/boot/bzImage or /boot/vmlinuz, not vmlinux'],
  ['1f8b', 'it is a gzip file: is it the initramfs?'],
  ['28b52ffd', 'it is a zstd file: is it the initramfs?'],
  ['fd377a58', 'it is an xz file: is it the initramfs?'],
  ['303730', 'it is a cpio archive: is it the initramfs?'],
  ['68737173', 'it is a squashfs: is it the filesystem?'],
]

/** Reads the header of a kernel file from its first `kernelHeaderBytes`; throws `invalid` saying what the file is instead. */
export function parseKernelHeader(head: Buffer, fileBytes: number): KernelHeader {
  if (head.length < kernelHeaderBytes) throw notKernel(`it has only ${head.length} bytes`)
  const [, looksLike] =
    lookalikes.find(([magic]) => head.toString('hex', 0, magic.length / 2) === magic) ?? []
  if (looksLike !== undefined) throw notKernel(looksLike)
  if (head.toString('latin1', 0x38, 0x3c) === 'ARMd') throw notKernel('it is a kernel for arm64')
  if (head.readUInt16LE(0x1fe) !== 0xaa55) throw notKernel('its boot flag at 0x1fe is not 0xaa55')
  if (head.toString('latin1', 0x202, 0x206) !== 'HdrS') throw notKernel('it has no "HdrS" at 0x202')
  const protocol = head.readUInt16LE(0x206)
  // Protocol 2.12 (Linux 3.8) tells whether there is a 64-bit entry; older kernels do not say, and boot no machine of today.
  if (protocol < 0x020c)
    throw notKernel(`its boot protocol ${written(protocol)} is older than 2.12 (Linux 3.8)`)
  if ((head.readUInt8(0x211) & 1) === 0) throw notKernel('it is a zImage: its LOADED_HIGH flag is not set')
  if ((head.readUInt16LE(0x236) & 1) === 0)
    throw notKernel('it is a 32-bit kernel: its XLF_KERNEL_64 flag is not set')
  refuseCut(head, fileBytes)
  return { protocol, maxCommandLineBytes: head.readUInt32LE(0x238) }
}

/** The header tells how long the file is at least: setup sectors (0 means 4), the boot sector, and the system in units of 16 bytes. */
function refuseCut(head: Buffer, fileBytes: number): void {
  const setupSectors = head.readUInt8(0x1f1) || 4
  const least = (setupSectors + 1) * 512 + head.readUInt32LE(0x1f4) * 16
  // The last unit of 16 bytes may not be full.
  if (fileBytes <= least - 16) throw notKernel(`it was cut: ${fileBytes} bytes of ${least}`)
}

function written(protocol: number): string {
  return `${protocol >> 8}.${String(protocol & 0xff).padStart(2, '0')}`
}

function notKernel(why: string): PawlError {
  return new PawlError('invalid', `the kernel is not an x86-64 bzImage: ${why}`)
}
