import { type Digest, digestOf } from '../../src/domain/digest.ts'

/** A file of an image, by its digest. */
export interface SmallFile {
  readonly digest: Digest
  readonly bytes: Buffer
}

/** The least that a kernel file can be: a boot sector, one setup sector and 32 bytes of system, as the x86 boot protocol has them. */
export function smallKernel(): SmallFile {
  const bytes = Buffer.alloc(1024 + 32)
  bytes.writeUInt8(1, 0x1f1)
  bytes.writeUInt32LE(2, 0x1f4)
  bytes.writeUInt16LE(0xaa55, 0x1fe)
  bytes.write('HdrS', 0x202)
  bytes.writeUInt16LE(0x020f, 0x206)
  bytes.writeUInt8(1, 0x211)
  bytes.writeUInt16LE(0x7f, 0x236)
  bytes.writeUInt32LE(2047, 0x238)
  return { digest: digestOf(bytes), bytes }
}

/** A small file of another kind. */
export function smallFile(content: string): SmallFile {
  const bytes = Buffer.from(content)
  return { digest: digestOf(bytes), bytes }
}

/** The manifest of a kernel and an initramfs. */
export function smallManifest(
  kernel: SmallFile,
  initramfs: SmallFile,
  changes: Record<string, unknown> = {},
): Record<string, unknown> {
  const artifact = (role: string, { digest, bytes }: SmallFile): object => ({
    role,
    digest,
    size: bytes.length,
    mediaType: 'application/octet-stream',
  })
  return {
    schema: 'pawl.image/v1',
    name: 'small',
    version: '1',
    arch: 'x86_64',
    kernelArguments: 'quiet',
    artifacts: [artifact('kernel', kernel), artifact('initramfs', initramfs)],
    ...changes,
  }
}
