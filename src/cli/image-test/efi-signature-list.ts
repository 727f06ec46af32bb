import { X509Certificate } from 'node:crypto'

/** EFI_CERT_X509_GUID, a5c059a1-94e4-4aa7-87b5-ab155c2bf072, in the mixed byte order of UEFI. */
const x509Guid = Buffer.from('a159c0a5e494a74a87b5ab155c2bf072', 'hex')
/** Who put the entry there. Nobody reads it; all zero is allowed. */
const owner = Buffer.alloc(16)

/**
 * The EFI_SIGNATURE_LISTs (UEFI 2.10, 32.4.1) of these certificates, one list each, as the variable `TlsCaCertificate` holds them.
 * @param pems root certificates as PEM or DER
 */
export function efiSignatureList(...pems: (string | Buffer)[]): Buffer {
  return Buffer.concat(
    pems.map((pem) => {
      const der = new X509Certificate(pem).raw
      const header = Buffer.alloc(12)
      header.writeUInt32LE(28 + 16 + der.length, 0)
      header.writeUInt32LE(0, 4)
      header.writeUInt32LE(16 + der.length, 8)
      return Buffer.concat([x509Guid, header, owner, der])
    }),
  )
}
