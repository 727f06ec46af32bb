import { createCipheriv, createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { type Manifest, parseManifest } from '../domain/image.ts'
import type { ImageSignature } from '../domain/signature.ts'
import { PawlError } from '../errors.ts'
import type { OperatorApi } from './api.ts'
import { mark, nameOf } from './marks.ts'
import type { Digests } from './plan.ts'

/** One file of a storm's images: bytes that look random, and are the same wherever they are made from its name. */
interface Made {
  readonly role: 'kernel' | 'initramfs' | 'filesystem'
  readonly seed: string
  readonly size: number
  readonly digest: string
}

/** How the bytes that a node downloads are spread, in parts of a hundred: about as in Pawl's own images. */
const shares = {
  stage2: [
    ['kernel', 10],
    ['initramfs', 20],
  ],
  stage3: [
    ['kernel', 10],
    ['initramfs', 20],
    ['filesystem', 40],
  ],
} as const

const pieceBytes = 1024 * 1024
const mebibyte = 1024 * 1024

/** Publishes both images of a storm. With `sign` they are signed; a profile that takes unsigned ones is needed without. */
export async function publishImages(
  api: OperatorApi,
  id: string,
  imageMib: number,
  sign: ((manifest: Manifest) => ImageSignature) | undefined,
): Promise<Digests> {
  const stage2 = await publish(api, id, 'stage2', imageMib, sign)
  const stage3 = await publish(api, id, 'stage3', imageMib, sign)
  // Each role of `shares` is there.
  return { stage2, stage3 } as unknown as Digests
}

/** The reference of a stage's image. */
export function imageRefOf(id: string, stage: 'stage2' | 'stage3'): string {
  return `${nameOf(id)}-${stage}@1`
}

async function publish(
  api: OperatorApi,
  id: string,
  stage: 'stage2' | 'stage3',
  imageMib: number,
  sign: ((manifest: Manifest) => ImageSignature) | undefined,
): Promise<Record<string, string>> {
  const files = shares[stage].map(([role, share]) =>
    make(role, `${id}/${stage}/${role}`, Math.ceil((imageMib * mebibyte * share) / 100)),
  )
  const manifest = parseManifest({
    schema: 'pawl.image/v1',
    name: `${nameOf(id)}-${stage}`,
    version: '1',
    arch: 'x86_64',
    kernelArguments: 'quiet',
    annotations: { [mark]: id },
    artifacts: files.map(({ role, digest, size }) => ({
      ...{ role, digest, size },
      mediaType: 'application/octet-stream',
    })),
  })
  for (const file of files) {
    const path = `/artifacts/sha256/${file.digest}`
    await api.upload(path, Readable.from(piecesOf(file)), { offset: 0, size: file.size })
  }
  const published = await api.create<{ proposal: unknown }>('/images', {
    manifest,
    signature: sign?.(manifest),
  })
  if (published.proposal !== null)
    throw new PawlError('conflict', 'images that are published here wait for a second person', {
      hint: 'a storm cannot wait: aim it at an installation without that rule',
    })
  return Object.fromEntries(files.map(({ role, digest }) => [role, digest]))
}

function make(role: Made['role'], seed: string, size: number): Made {
  const hash = createHash('sha256')
  for (const piece of piecesOf({ role, seed, size })) hash.update(piece)
  return { role, seed, size, digest: hash.digest('hex') }
}

/** A key stream of AES: as fast as the disk, and nothing can compress it. */
function* piecesOf({ role, seed, size }: Pick<Made, 'role' | 'seed' | 'size'>): Generator<Buffer> {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16)
  const stream = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  const zeros = Buffer.alloc(pieceBytes)
  for (let at = 0; at < size; at += pieceBytes) {
    const piece = stream.update(zeros.subarray(0, Math.min(pieceBytes, size - at)))
    if (at === 0 && role === 'kernel') writeKernelHeader(piece)
    yield piece
  }
}

/** What Pawl checks of a kernel before it publishes one ("The Linux/x86 Boot Protocol"). It starts nowhere. */
function writeKernelHeader(bytes: Buffer): void {
  bytes.fill(0, 0, 1024)
  bytes.writeUInt8(1, 0x1f1)
  bytes.writeUInt32LE(2, 0x1f4)
  bytes.writeUInt16LE(0xaa55, 0x1fe)
  bytes.write('HdrS', 0x202)
  bytes.writeUInt16LE(0x020f, 0x206)
  bytes.writeUInt8(1, 0x211)
  bytes.writeUInt16LE(0x7f, 0x236)
  bytes.writeUInt32LE(2047, 0x238)
}
