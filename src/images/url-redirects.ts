import { readFileSync } from 'node:fs'
import { PawlError } from '../errors.ts'
import type { ArtifactRedirects } from './artifacts.ts'

/** Artifacts that everyone can have at `BASE/sha256/DIGEST`: an object store or CDN that somebody copied them to, or that asks us. */
export function urlRedirects(base: string, ca: string | undefined): ArtifactRedirects {
  const openUrlOf = (digest: string): string => `${base}/sha256/${digest}`
  return { origin: new URL(base).origin, ca, urlOf: async (digest) => openUrlOf(digest), openUrlOf }
}

/** Reads a CA's certificates; throws `usage`. */
export function readCaFile(file: string, whose: string): string {
  try {
    const text = readFileSync(file, 'utf8')
    if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  } catch (cause) {
    throw new PawlError('usage', `the CA of ${whose}, ${file}, cannot be read`, { cause })
  }
  throw new PawlError('usage', `the CA of ${whose}, ${file}, is not a PEM certificate`)
}
