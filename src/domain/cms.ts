import type { X509Certificate } from 'node:crypto'

/**
 * The CMS of a detached signature (RFC 5652) without signed attributes is a function of the certificates and the RSA
 * signature value alone. So nothing that parses CMS meets what others send: a signature is checked by making what it must
 * be, and comparing every byte.
 */

const sequence = 0x30
const set = 0x31
const integer = 0x02
const octetString = 0x04
const explicit0 = 0xa0

/** 1.2.840.113549.1.7.2 and .1, 2.16.840.1.101.3.4.2.1, 1.2.840.113549.1.1.1, as DER. */
const signedData = Buffer.from('06092a864886f70d010702', 'hex')
const data = Buffer.from('06092a864886f70d010701', 'hex')
const sha256 = Buffer.from('300d06096086480165030402010500', 'hex')
const rsaEncryption = Buffer.from('300d06092a864886f70d0101010500', 'hex')
const version1 = Buffer.from('020101', 'hex')

/** The CMS, DER, that holds these certificates (the signer's first) and this signature value over a SHA-256. */
export function detachedCms(certificates: readonly X509Certificate[], signature: Uint8Array): Buffer {
  const [leaf] = certificates
  if (leaf === undefined) throw new TypeError('a signature has at least its own certificate')
  const { issuer, serial } = issuerAndSerial(leaf.raw)
  const signerInfo = tlv(
    sequence,
    version1,
    tlv(sequence, issuer, serial),
    sha256,
    rsaEncryption,
    tlv(octetString, signature),
  )
  const content = tlv(
    sequence,
    version1,
    tlv(set, sha256),
    tlv(sequence, data),
    tlv(explicit0, ...certificates.map(({ raw }) => raw)),
    tlv(set, signerInfo),
  )
  return tlv(sequence, signedData, tlv(explicit0, content))
}

/** The two fields by which a signature names its certificate, as the certificate (DER, known to be sound) has them. */
export function issuerAndSerial(certificate: Uint8Array): { issuer: Uint8Array; serial: Uint8Array } {
  const whole = elementAt(certificate, 0)
  const body = elementAt(certificate, whole.contentAt) // TBSCertificate
  let at = body.contentAt
  const next = () => {
    const { end } = elementAt(certificate, at)
    const element = certificate.subarray(at, end)
    at = end
    return element
  }
  if (certificate[at] === explicit0) next() // the version; absent in X.509 v1
  const serial = next()
  next() // the signature's algorithm
  const issuer = next()
  if (serial[0] !== integer || issuer[0] !== sequence)
    throw new TypeError('the certificate is not built like one')
  return { issuer, serial }
}

/** One DER element: where its content begins and where it ends. Lengths of one to four bytes, as certificates have. */
function elementAt(bytes: Uint8Array, at: number): { contentAt: number; end: number } {
  const first = bytes[at + 1] ?? 0
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f
  let length = lengthBytes === 0 ? first : 0
  for (let i = 0; i < lengthBytes; i += 1) length = length * 256 + (bytes[at + 2 + i] ?? 0)
  const contentAt = at + 2 + lengthBytes
  const end = contentAt + length
  if (lengthBytes > 4 || end > bytes.length) throw new TypeError('the certificate is cut off')
  return { contentAt, end }
}

function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const length =
    content.length < 0x80
      ? [content.length]
      : content.length < 0x100
        ? [0x81, content.length]
        : content.length < 0x10000
          ? [0x82, content.length >> 8, content.length & 0xff]
          : [0x83, content.length >> 16, (content.length >> 8) & 0xff, content.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}
