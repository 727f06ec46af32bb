import { join } from 'node:path'
import t, { type Test } from 'tap'
import { digestOf } from '../../src/domain/digest.ts'
import { parseManifest } from '../../src/domain/image.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { parseKernelHeader } from '../../src/images/kernel-file.ts'
import { checkPublishable } from '../../src/images/publish.ts'
import { memoryStore } from './memory-store.ts'

/** The least that is a bzImage: one setup sector, 32 bytes of system, and what is changed in it. */
function bzImage(change: (head: Buffer) => void = () => undefined): Buffer {
  const file = Buffer.alloc(1024 + 32)
  file.writeUInt8(1, 0x1f1)
  file.writeUInt32LE(2, 0x1f4)
  file.writeUInt16LE(0xaa55, 0x1fe)
  file.write('HdrS', 0x202)
  file.writeUInt16LE(0x020f, 0x206)
  file.writeUInt8(1, 0x211)
  file.writeUInt16LE(0x7f, 0x236)
  file.writeUInt32LE(2047, 0x238)
  change(file)
  return file
}

/** The least that is an arm64 Image with its EFI stub: one section of 512 bytes behind the headers. */
function arm64Image(change: (head: Buffer) => void = () => undefined): Buffer {
  const file = Buffer.alloc(1024)
  file.write('MZ')
  file.writeUInt8(0x0a, 24)
  file.write('ARM\x64', 0x38)
  file.writeUInt32LE(0x40, 0x3c)
  file.write('PE\0\0', 0x40)
  file.writeUInt16LE(0xaa64, 0x44)
  file.writeUInt16LE(1, 0x46)
  file.writeUInt16LE(0xa0, 0x54)
  file.writeUInt32LE(512, 0x58 + 0xa0 + 16)
  file.writeUInt32LE(512, 0x58 + 0xa0 + 20)
  change(file)
  return file
}

t.test('refuses what is no x86-64 bzImage, and says what it is', async (t) => {
  const cases: [Buffer, RegExp][] = [
    [Buffer.alloc(0), /only 0 bytes/],
    [Buffer.alloc(0x25f), /only 607 bytes/],
    [bzImage((b) => b.write('\x7fELF', 'latin1')), /ELF file: publish .*bzImage/],
    [bzImage((b) => b.write('1f8b', 'hex')), /gzip/],
    [bzImage((b) => b.write('28b52ffd', 'hex')), /zstd/],
    [bzImage((b) => b.write('fd377a58', 'hex')), /xz/],
    [bzImage((b) => b.write('070701')), /cpio/],
    [bzImage((b) => b.write('hsqs')), /squashfs/],
    [bzImage((b) => b.write('ARM\x64', 0x38)), /arm64/],
    [bzImage((b) => b.writeUInt16LE(0x55aa, 0x1fe)), /boot flag/],
    [bzImage((b) => b.write('HdrX', 0x202)), /HdrS/],
    [bzImage((b) => b.writeUInt16LE(0x020b, 0x206)), /boot protocol 2\.11 is older than 2\.12/],
    [bzImage((b) => b.writeUInt8(0, 0x211)), /zImage/],
    [bzImage((b) => b.writeUInt16LE(0x7e, 0x236)), /32-bit/],
    [bzImage((b) => b.writeUInt32LE(3, 0x1f4)).subarray(0, 1056), /cut: 1056 bytes of 1072/],
    [bzImage((b) => b.writeUInt8(0, 0x1f1)), /cut: 1056 bytes of 2592/],
  ]
  for (const [file, message] of cases) {
    t.throws(
      () => parseKernelHeader('x86_64', file, file.length),
      { code: 'invalid', message },
      String(message),
    )
  }
})

t.test('reads a bzImage’s header', async (t) => {
  t.strictSame(parseKernelHeader('x86_64', bzImage(), 1056), { maxCommandLineBytes: 2047 })
  t.ok(parseKernelHeader('x86_64', bzImage(), 1041), 'the last 16 bytes may not be full')
  t.ok(parseKernelHeader('x86_64', bzImage(), 9000), 'a signature may follow')
})

t.test('refuses what is no arm64 Image, and says what it is', async (t) => {
  const cases: [Buffer, RegExp][] = [
    [Buffer.alloc(0x25f), /not an arm64 Image: it has only 607 bytes/],
    [bzImage(), /for x86-64: publish it with --arch x86_64/],
    [arm64Image((b) => b.write('1f8b', 'hex')), /gzip/],
    [arm64Image((b) => b.write('zimg', 4)), /zboot.*publish arch\/arm64\/boot\/Image/],
    [arm64Image((b) => b.write('ARMx', 0x38)), /no "ARM/],
    [arm64Image((b) => b.write('XX', 0)), /CONFIG_EFI_STUB/],
    [arm64Image((b) => b.writeUInt8(0x0b, 24)), /big-endian/],
    [arm64Image((b) => b.writeUInt32LE(0xffffffff, 0x3c)), /no PE header/],
    [arm64Image((b) => b.write('NE', 0x40)), /no PE header/],
    [arm64Image((b) => b.writeUInt16LE(0x8664, 0x44)), /PE header is not for arm64/],
    [arm64Image().subarray(0, 1023), /cut: 1023 bytes of 1024/],
  ]
  for (const [file, message] of cases)
    t.throws(
      () => parseKernelHeader('arm64', file, file.length),
      { code: 'invalid', message },
      String(message),
    )
  t.throws(() => parseKernelHeader('x86_64', arm64Image(), 1024), { message: /publish it with --arch arm64/ })
})

t.test('reads an arm64 Image’s header', async (t) => {
  t.strictSame(parseKernelHeader('arm64', arm64Image(), 1024), { maxCommandLineBytes: 2047 })
  t.ok(parseKernelHeader('arm64', arm64Image(), 9000), 'a signature may follow')
})

/** A manifest of what is given. */
function manifestOf(kernel: Buffer, initramfs: Buffer, changes: Record<string, unknown> = {}) {
  const entry = (role: string, content: Buffer) => ({
    role,
    digest: digestOf(content),
    size: content.length,
    mediaType: 'application/octet-stream',
  })
  return parseManifest({
    schema: 'pawl.image/v1',
    name: 'small',
    version: '1',
    arch: 'x86_64',
    kernelArguments: 'quiet',
    artifacts: [entry('kernel', kernel), entry('initramfs', initramfs)],
    ...changes,
  })
}

const initramfs = Buffer.from('an initramfs')

async function storeWith(t: Test, ...contents: Buffer[]) {
  const store = await openArtifactStore(join(t.testdir({}), 'artifacts'))
  for (const content of contents) {
    await store.put(digestOf(content), chunks(content), { maxBytes: 10_000 })
  }
  return store
}

async function* chunks(content: Buffer): AsyncGenerator<Buffer> {
  yield content
}

t.test('an image with a missing artifact is not publishable', async (t) => {
  const store = await storeWith(t, bzImage())
  await t.rejects(checkPublishable(manifestOf(bzImage(), initramfs), store), {
    code: 'conflict',
    message: /^the initramfs [0-9a-f]{64} of small@1 is not stored$/,
  })
})

t.test('an image with another size than announced is not publishable', async (t) => {
  const store = await storeWith(t, bzImage(), initramfs)
  const good = manifestOf(bzImage(), initramfs)
  const artifacts = good.artifacts.map((artifact) => ({ ...artifact, size: artifact.size + 1 }))
  await t.rejects(checkPublishable({ ...good, artifacts }, store), {
    code: 'digest-mismatch',
    message: /1056 bytes/,
  })
})

t.test('an image whose stored bytes went bad is not publishable', async (t) => {
  const memory = memoryStore()
  memory.add(bzImage())
  memory.add(initramfs)
  const store = { ...memory.store, verify: async () => Promise.reject(new Error('bad')) }
  await t.rejects(checkPublishable(manifestOf(bzImage(), initramfs), store), { message: 'bad' })
})

t.test('an image whose kernel no machine can start is not publishable', async (t) => {
  const swapped = manifestOf(initramfs, bzImage())
  await t.rejects(checkPublishable(swapped, await storeWith(t, bzImage(), initramfs)), {
    code: 'invalid',
    message: /bzImage/,
  })
})

t.test('an image whose kernel cuts its arguments is not publishable', async (t) => {
  const old = bzImage((head) => head.writeUInt32LE(4, 0x238))
  const store = await storeWith(t, old, initramfs)
  await t.rejects(checkPublishable(manifestOf(old, initramfs), store), {
    code: 'invalid',
    message: /this kernel takes 4$/,
  })
})

t.test('a whole image is publishable', async (t) => {
  const store = await storeWith(t, bzImage(), initramfs)
  await t.resolves(checkPublishable(manifestOf(bzImage(), initramfs), store))
})
