import { isPawlError, PawlError } from '../errors.ts'
import { findPublicFile } from '../pki/key-file.ts'

/** Reads certificates, PEM; throws `not-found`. */
export function readCertificates(file: string): string {
  try {
    const text = findPublicFile(file)
    if (text !== undefined) return text
  } catch (error) {
    // It is no key: only the message would mislead.
    if (isPawlError(error)) throw new PawlError('invalid', error.message)
    throw error
  }
  throw new PawlError('not-found', `there is no ${file}`)
}
