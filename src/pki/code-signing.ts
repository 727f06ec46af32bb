import { constants, createPrivateKey, type KeyObject, privateEncrypt } from 'node:crypto'
import forge from 'node-forge'
import { detachedCms, issuerAndSerial } from '../domain/cms.ts'
import type { Digest } from '../domain/digest.ts'
import type { ArtifactRole, Manifest } from '../domain/image.ts'
import { type CertificateChain, checkMaySign, parseChain } from '../domain/publisher.ts'
import { digestInfo, type ImageSignature, signedParts } from '../domain/signature.ts'
import { PawlError } from '../errors.ts'

/**
 * Signing, on the builder's own machine: the key goes nowhere. What is made is what iPXE's `imgverify` accepts: detached
 * CMS, DER, SHA-256, RSA, no signed attributes, with the certificates in it.
 *
 * The one file that imports node-forge, and only to write: it lays out the CMS from the builder's own certificates. Its
 * parsers and verifiers, where its flaws were found, are not used; others' signatures are checked by domain/signature.ts.
 */

/** A key that signs, with its certificates. */
export interface SigningKey {
  readonly chain: CertificateChain
  /** Signs what has this SHA-256: bytes of any number, none of which are read here. Returns the CMS, DER. */
  sign(digest: Digest): Buffer
}

/**
 * Opens a key for signing: PEM, PKCS#8 (encrypted with a passphrase, or not) or PKCS#1; certificates PEM, the leaf first.
 * Throws `key-unreadable`, and `signature-invalid` for certificates that may not sign now or do not go with the key.
 */
export function openSigningKey(
  pem: { readonly key: string; readonly certificates: string; readonly passphrase?: string | undefined },
  now: Date,
): SigningKey {
  const key = readKey(pem.key, pem.passphrase)
  const chain = parseChain(pem.certificates)
  checkMaySign(chain, now)
  if (!chain.leaf.checkPrivateKey(key)) {
    throw new PawlError('signature-invalid', 'the key does not belong to the first certificate', {
      hint: 'the file of certificates begins with the one that was made for the key',
    })
  }
  return { chain, sign: (digest) => makeCms(key, chain, digest) }
}

/** Signs an image: its manifest, and each artifact by the digest that the manifest has. */
export function signImage(key: SigningKey, manifest: Manifest): ImageSignature {
  const made = signedParts(manifest).map(({ part, digest }) => [part, key.sign(digest).toString('base64')])
  const { manifest: ofManifest, ...artifacts } = Object.fromEntries(made) as { manifest: string } & Record<
    ArtifactRole,
    string
  > // signedParts names them
  const certificates = key.chain.certificates.map((certificate) => certificate.toString())
  return { schema: 'pawl.signature/v1', certificates, manifest: ofManifest, artifacts }
}

function readKey(pem: string, passphrase: string | undefined): KeyObject {
  try {
    return createPrivateKey(passphrase === undefined ? pem : { key: pem, passphrase })
  } catch (cause) {
    const isEncrypted = /ENCRYPTED/.test(pem)
    throw new PawlError('key-unreadable', 'the signing key cannot be read', {
      hint: isEncrypted
        ? 'it is encrypted: PAWL_SIGN_PASSPHRASE_FILE names the file of its passphrase'
        : 'it must be an RSA key, PEM, PKCS#8 or PKCS#1',
      cause,
    })
  }
}

/** Forge wants the content in memory to hash it: it is given none, and a key that signs the digest known already. */
function makeCms(key: KeyObject, chain: CertificateChain, digest: Digest): Buffer {
  const value = privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, digestInfo(digest))
  const { asn1, pkcs7, pki, util } = forge
  const cms = pkcs7.createSignedData()
  cms.content = util.createBuffer('')
  cms.addSigner({
    // forge's types know only keys of its own; it calls nothing but `sign`.
    key: { sign: () => value.toString('latin1') } as unknown as forge.pki.rsa.PrivateKey,
    issuer: [],
    serialNumber: '01',
    digestAlgorithm: pki.oids.sha256 as string,
    authenticatedAttributes: [],
  } as unknown as Parameters<typeof cms.addSigner>[0])
  cms.sign({ detached: true })
  const tree = cms.toAsn1()
  setCertificates(tree, chain)
  const der = Buffer.from(asn1.toDer(tree).getBytes(), 'latin1')
  // What every reader will compare with: a certificate that forge writes otherwise than it was would be refused by all.
  if (!der.equals(detachedCms(chain.certificates, value)))
    throw new PawlError('signature-invalid', 'a certificate is not DER: it cannot be put into a signature')
  return der
}

/** Puts the certificates in as they are: forge would write a name or an algorithm it does not know in another way. */
function setCertificates(tree: forge.asn1.Asn1, { certificates, leaf }: CertificateChain): void {
  const { asn1 } = forge
  const signedData = child(child(tree, 1), 0)
  const signer = child(child(signedData, -1), 0)
  const { issuer, serial } = issuerAndSerial(leaf.raw)
  child(signer, 1).value = [verbatim(issuer), verbatim(serial)]
  const set = asn1.create(
    asn1.Class.CONTEXT_SPECIFIC,
    0,
    true,
    certificates.map(({ raw }) => verbatim(raw)),
  )
  ;(signedData.value as forge.asn1.Asn1[]).splice(-1, 0, set)
}

function verbatim(der: Uint8Array): forge.asn1.Asn1 {
  // The types leave out this option, without which the contents of bit strings are taken apart too.
  const options = { decodeBitStrings: false } as unknown as boolean
  return forge.asn1.fromDer(forge.util.createBuffer(Buffer.from(der).toString('latin1')), options)
}

function child(node: forge.asn1.Asn1, index: number): forge.asn1.Asn1 {
  const found = (node.value as forge.asn1.Asn1[]).at(index)
  if (found === undefined) throw new TypeError('node-forge laid the CMS out in another way')
  return found
}
