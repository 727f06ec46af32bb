import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Manifest, manifestDigest } from '../domain/image.ts'
import type { ImageSignature } from '../domain/signature.ts'
import { PawlError } from '../errors.ts'
import { readSecretFile } from '../pki/key-file.ts'
import type { PublisherView } from './answers.ts'
import type { Api } from './api.ts'
import { readCertificates } from './certificate-file.ts'
import { dataFolderOf } from './connection.ts'
import type { Context } from './context.ts'
import { wholeList } from './pages.ts'

/** Which key signs, as flags have it. */
export interface SigningFlags {
  readonly signKey?: string
  readonly signCert?: string
}

/** Who signs images, ready to. */
export interface Signer {
  /** The publisher's name on the server. */
  readonly publisher: string
  sign(manifest: Manifest): ImageSignature
}

/**
 * Finds the key to sign with: the flags, then PAWL_SIGN_KEY and PAWL_SIGN_CERT, then the data folder's own publisher. Asks
 * the server now whether it knows the publisher: gigabytes are not sent to find out at the end that it does not. Returns
 * undefined where there is none. Throws `usage`, `key-unreadable` and `signature-invalid`.
 */
export async function findSigner(
  context: Context,
  api: Api,
  flags: SigningFlags,
): Promise<Signer | undefined> {
  const files = filesOf(context, flags)
  if (files === undefined) return undefined
  const { openSigningKey, signImage } = await import('../pki/code-signing.ts') // takes time to load
  const { env } = context.io
  const passphraseFile = env.PAWL_SIGN_PASSPHRASE_FILE
  const passphrase = isSet(passphraseFile) ? readSecret(passphraseFile).replace(/\r?\n$/, '') : undefined
  const key = openSigningKey(
    { key: readSecret(files.key), certificates: readCertificates(files.certificates), passphrase },
    context.io.now(),
  )
  const { fingerprint } = key.chain
  const { items } = await wholeList<PublisherView>(api, '/publishers')
  const known = items.find((one) => one.fingerprint === fingerprint)
  if (known === undefined || known.revokedAt !== null) {
    throw new PawlError(
      'signature-invalid',
      known === undefined
        ? `the server knows no publisher with the certificate in ${files.certificates}`
        : `publisher "${known.name}" was revoked at ${known.revokedAt}`,
      {
        hint:
          known === undefined
            ? `an admin adds it with pawl publisher add NAME --cert ${files.certificates}`
            : 'sign with the key of another publisher',
      },
    )
  }
  return { publisher: known.name, sign: (manifest) => signImage(key, manifest) }
}

/** Checks that what the server says of a manifest is of the image that is to be signed. */
export function refuseOtherManifest(manifest: Manifest, ref: string, digest: string): void {
  const actual = manifestDigest(manifest)
  if (`${manifest.name}@${manifest.version}` === ref && actual === digest) return
  throw new PawlError(
    'digest-mismatch',
    `the server's manifest of ${ref} has digest ${actual}, not ${digest}`,
  )
}

function filesOf(context: Context, flags: SigningFlags): { key: string; certificates: string } | undefined {
  const { env } = context.io
  const key = flags.signKey ?? env.PAWL_SIGN_KEY
  const certificates = flags.signCert ?? env.PAWL_SIGN_CERT
  if (isSet(key) && isSet(certificates)) return { key, certificates }
  if (isSet(key) || isSet(certificates)) {
    const [given, missing] = isSet(key) ? ['key', 'certificate'] : ['certificate', 'key']
    throw new PawlError('usage', `a signing ${given} is given without its ${missing}`, {
      hint: 'give --sign-key and --sign-cert, or set PAWL_SIGN_KEY and PAWL_SIGN_CERT',
    })
  }
  const folder = dataFolderOf(env, context.flags().data)
  if (folder === undefined) return undefined
  const own = { key: join(folder, 'publisher.key'), certificates: join(folder, 'publisher.crt') }
  return existsSync(own.key) && existsSync(own.certificates) ? own : undefined
}

function readSecret(file: string): string {
  return readSecretFile(file, 'name a file that is there')
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== ''
}
