/**
 * Whether a file is a kernel for the architecture that its image says, by its header. Offsets and flags are those of "The Linux/x86
 * Boot Protocol" and "Booting AArch64 Linux" (Documentation/arch/x86/boot.rst and arch/arm64/booting.rst in the kernel's source). A
 * file that no loader can start must not be published.
 */
import type { Architecture } from '../domain/architecture.ts'
import { PawlError } from '../errors.ts'

/** How many bytes from a kernel's start the check reads. */
export const kernelHeaderBytes = 0x260

/** What a kernel says of itself. */
export interface KernelHeader {
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

/** What kernels are called, and the reader of their header, by architecture. */
const readers: Readonly<
  Record<Architecture, { readonly kind: string; read(head: Buffer, fileBytes: number): KernelHeader }>
> = {
  x86_64: { kind: 'an x86-64 bzImage', read: readBzImage },
  arm64: { kind: 'an arm64 Image', read: readArm64Image },
}

/** Reads the header of a kernel file from its first `kernelHeaderBytes`; throws `invalid` saying what the file is instead. */
export function parseKernelHeader(arch: Architecture, head: Buffer, fileBytes: number): KernelHeader {
  const { kind, read } = readers[arch]
  try {
    if (head.length < kernelHeaderBytes) throw new NotKernel(`it has only ${head.length} bytes`)
    const [, looksLike] =
      lookalikes.find(([magic]) => head.toString('hex', 0, magic.length / 2) === magic) ?? []
    if (looksLike !== undefined) throw new NotKernel(looksLike)
    return read(head, fileBytes)
  } catch (error) {
    if (error instanceof NotKernel)
      throw new PawlError('invalid', `the kernel is not ${kind}: ${error.message}`)
    throw error
  }
}

function readBzImage(head: Buffer, fileBytes: number): KernelHeader {
  if (isArm64(head)) throw new NotKernel('it is a kernel for arm64: publish it with --arch arm64')
  if (isZboot(head)) throw new NotKernel('it is a compressed EFI kernel (zboot) of another architecture')
  if (head.readUInt16LE(0x1fe) !== 0xaa55) throw new NotKernel('its boot flag at 0x1fe is not 0xaa55')
  if (!isX86(head)) throw new NotKernel('it has no "HdrS" at 0x202')
  const protocol = head.readUInt16LE(0x206)
  // Protocol 2.12 (Linux 3.8) tells whether there is a 64-bit entry; older kernels do not say, and boot no machine of today.
  if (protocol < 0x020c)
    throw new NotKernel(`its boot protocol ${written(protocol)} is older than 2.12 (Linux 3.8)`)
  if ((head.readUInt8(0x211) & 1) === 0)
    throw new NotKernel('it is a zImage: its LOADED_HIGH flag is not set')
  if ((head.readUInt16LE(0x236) & 1) === 0)
    throw new NotKernel('it is a 32-bit kernel: its XLF_KERNEL_64 flag is not set')
  // Setup sectors (0 means 4), the boot sector, and the system in units of 16 bytes, the last of which may not be full.
  const least = ((head.readUInt8(0x1f1) || 4) + 1) * 512 + head.readUInt32LE(0x1f4) * 16
  if (fileBytes <= least - 16) throw new NotKernel(`it was cut: ${fileBytes} bytes of ${least}`)
  return { maxCommandLineBytes: head.readUInt32LE(0x238) }
}

/** The longest command line of arm64 is fixed (COMMAND_LINE_SIZE), without its final NUL. */
function readArm64Image(head: Buffer, fileBytes: number): KernelHeader {
  if (isX86(head)) throw new NotKernel('it is a kernel for x86-64: publish it with --arch x86_64')
  if (isZboot(head))
    throw new NotKernel(
      'it is a compressed EFI kernel (zboot), which kexec of Debian 12 cannot start: publish arch/arm64/boot/Image',
    )
  if (!isArm64(head)) throw new NotKernel('it has no "ARM\\x64" at 0x38')
  // Without that stub iPXE, an EFI program, cannot start it.
  if (head.toString('latin1', 0, 2) !== 'MZ') throw new NotKernel('it was built without CONFIG_EFI_STUB')
  if ((head.readUInt8(24) & 1) === 1) throw new NotKernel('it is a big-endian kernel')
  // The whole size counts memory that the file does not fill (bss). The PE header, where the EFI stub is, tells what must be there.
  const least = peBytes(head)
  if (fileBytes < least) throw new NotKernel(`it was cut: ${fileBytes} bytes of ${least}`)
  return { maxCommandLineBytes: 2047 }
}

/** Up to where a PE file's sections reach: what its first bytes say must be in the file. */
function peBytes(head: Buffer): number {
  const pe = head.readUInt32LE(0x3c)
  if (pe + 24 > head.length || head.toString('latin1', pe, pe + 4) !== 'PE\0\0')
    throw new NotKernel('it has no PE header, by which firmware starts it')
  if (head.readUInt16LE(pe + 4) !== 0xaa64) throw new NotKernel('its PE header is not for arm64')
  const sections = pe + 24 + head.readUInt16LE(pe + 20)
  let least = 0
  for (let at = sections; at < sections + 40 * head.readUInt16LE(pe + 6) && at + 24 <= head.length; at += 40)
    least = Math.max(least, head.readUInt32LE(at + 16) + head.readUInt32LE(at + 20))
  return least
}

function isX86(head: Buffer): boolean {
  return head.toString('latin1', 0x202, 0x206) === 'HdrS'
}

function isArm64(head: Buffer): boolean {
  return head.toString('latin1', 0x38, 0x3c) === 'ARMd'
}

function isZboot(head: Buffer): boolean {
  return head.toString('latin1', 4, 8) === 'zimg'
}

function written(protocol: number): string {
  return `${protocol >> 8}.${String(protocol & 0xff).padStart(2, '0')}`
}

/** Why a file is not the kernel that it should be. */
class NotKernel extends Error {}
