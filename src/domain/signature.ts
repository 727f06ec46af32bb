import { constants, type KeyObject, publicDecrypt, timingSafeEqual } from 'node:crypto'
import { PawlError } from '../errors.ts'
import { detachedCms } from './cms.ts'
import type { Digest } from './digest.ts'
import { type ArtifactRole, artifactRoles, type Manifest, manifestDigest } from './image.ts'
import { quote } from './node.ts'
import { type CertificateChain, checkMaySign, parseChain } from './publisher.ts'
import Type, { Compile, type Static } from './schema.ts'

/** What a signature is over: the manifest's canonical JSON, or one artifact. */
export type SignedPart = 'manifest' | ArtifactRole

/** Four certificates and a signature of 8192 bits fit many times. */
const maxCmsBytes = 32 * 1024
const maxBase64 = Math.ceil(maxCmsBytes / 3) * 4
/** Detached CMS, DER, in base64. */
const cms = Type.String({ minLength: 4, maxLength: maxBase64, pattern: '^[A-Za-z0-9+/]+={0,2}$' })

/** The signature of an image by one publisher, as it is sent and stored. */
export const signatureSchema = Type.Object(
  {
    schema: Type.Literal('pawl.signature/v1'),
    /** PEM: the leaf first, then its issuers. */
    certificates: Type.Array(Type.String({ minLength: 1, maxLength: 16 * 1024 }), {
      minItems: 1,
      maxItems: 4,
    }),
    manifest: cms,
    artifacts: Type.Object(
      { kernel: cms, initramfs: cms, filesystem: Type.Optional(cms) },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false, $id: 'Signature' },
)

/** The signature of an image by one publisher. */
export type ImageSignature = Static<typeof signatureSchema>

const compiled = Compile(signatureSchema, 'machines')

/** Reads a signature; throws `invalid` naming the field. Whether it is right, `checkSignature` says. */
export function parseSignature(value: unknown): ImageSignature {
  if (compiled.Check(value)) return value
  const errors = [...compiled.Errors(value)]
  const unknown = errors.find((error) => error.keyword === 'additionalProperties')
  if (unknown !== undefined) {
    const [name] = (unknown.params as { additionalProperties: string[] }).additionalProperties
    throw new PawlError('invalid', `signature: unknown field ${quote(name ?? '')}`)
  }
  const path = (errors[0]?.instancePath ?? '').slice(1).replaceAll('/', '.')
  throw new PawlError(
    'invalid',
    `signature${path === '' ? '' : `: ${path}`} ${errors[0]?.message ?? 'is not one'}`,
  )
}

/** The parts of an image that are signed, each with its digest. */
export function signedParts(manifest: Manifest): readonly { part: SignedPart; digest: Digest }[] {
  return [
    { part: 'manifest', digest: manifestDigest(manifest) },
    ...manifest.artifacts.map(({ role, digest }) => ({ part: role, digest })),
  ]
}

/** The CMS of one part, DER; undefined where the signature has none. */
export function cmsOf(signature: ImageSignature, part: SignedPart): Buffer | undefined {
  const text = part === 'manifest' ? signature.manifest : signature.artifacts[part]
  return text === undefined ? undefined : Buffer.from(text, 'base64')
}

/**
 * Checks a signature of an image, as of a time, and returns whose it is. The artifacts' bytes are not read: their digests are
 * in the manifest. Throws `signature-invalid`.
 */
export function checkSignature(signature: ImageSignature, manifest: Manifest, at: Date): CertificateChain {
  const chain = parseChain(signature.certificates.join('\n'))
  checkMaySign(chain, at)
  checkParts(signature, manifest, chain)
  return chain
}

/** Checks every part of an image's signature against a chain, and that nothing else is signed. Throws `signature-invalid`. */
export function checkParts(signature: ImageSignature, manifest: Manifest, chain: CertificateChain): void {
  const parts = signedParts(manifest)
  const surplus = artifactRoles.find(
    (role) => signature.artifacts[role] !== undefined && !parts.some(({ part }) => part === role),
  )
  if (surplus !== undefined) throw wrong(surplus, 'is signed, but not in the manifest')
  for (const { part, digest } of parts) {
    const der = cmsOf(signature, part)
    if (der === undefined) throw wrong(part, 'is not signed')
    checkCms(der, part, digest, chain)
  }
}

/** Checks one detached CMS over what has this digest. The order is: what it is, whose it is, what it is over. */
export function checkCms(der: Buffer, part: SignedPart, digest: Digest, chain: CertificateChain): void {
  const { publicKey } = chain.leaf
  const signature = der.subarray(-signatureBytes(publicKey))
  if (!equal(detachedCms(chain.certificates, signature), der))
    throw wrong(part, 'is not the CMS that goes with its certificates')
  const signed = openSigned(publicKey, signature)
  if (signed === undefined) throw wrong(part, "was not made by the certificate's key")
  if (!equal(signed, digestInfo(digest))) throw wrong(part, 'is over other bytes')
}

/** What RSA (PKCS #1 v1.5) signs in the place of what has this SHA-256: RFC 8017 §9.2. */
export function digestInfo(digest: Digest): Buffer {
  return Buffer.concat([
    Buffer.from('3031300d060960864801650304020105000420', 'hex'),
    Buffer.from(digest, 'hex'),
  ])
}

function openSigned(key: KeyObject, signature: Buffer): Buffer | undefined {
  try {
    return publicDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, signature)
  } catch {
    return undefined // not a value of this key, or not padded as signatures are
  }
}

function signatureBytes(key: KeyObject): number {
  return (key.asymmetricKeyDetails?.modulusLength ?? 0) / 8 // checked to be whole bytes with the certificate
}

function equal(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

function wrong(part: SignedPart, what: string): PawlError {
  return new PawlError('signature-invalid', `the signature of the ${part} ${what}`, {
    hint: 'sign the image again: pawl image sign',
  })
}
