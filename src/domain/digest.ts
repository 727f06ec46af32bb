import { createHash } from 'node:crypto'
import { PawlError } from '../errors.ts'
import type { Branded } from './brand.ts'
import { quote } from './node.ts'

/** A SHA-256, 64 lower-case hex digits. Safe as a file name and in a URL path. */
export type Digest = Branded<string, 'Digest'>

/** The whole rule for a digest, for schemas. */
export const digestPattern = '^[0-9a-f]{64}$'

const digest = new RegExp(digestPattern)

/** Reads a SHA-256 in lower-case hex; throws `invalid`. Upper case is refused: one digest has one spelling. */
export function parseDigest(text: string): Digest {
  if (!digest.test(text)) {
    throw new PawlError('invalid', `${quote(text)} is not a SHA-256 of 64 lower-case hex digits`)
  }
  return text as Digest
}

/** The SHA-256 of a small value. Artifacts are hashed as they stream, never here. */
export function digestOf(bytes: string | Uint8Array): Digest {
  return createHash('sha256').update(bytes).digest('hex') as Digest // createHash writes lower-case hex
}
