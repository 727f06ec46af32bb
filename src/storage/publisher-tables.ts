/** Who signs images. A revoked one stays: its signatures and events name it. */
export interface PublisherRow {
  name: string
  /** SHA-256 of the leaf certificate's DER. */
  fingerprint: string
  /** PEM, the leaf first. */
  certificates: string
  created_at: string
  created_by: string
  revoked_at: string | null
  revoked_by: string | null
}

/** An image's signature by one publisher. */
export interface ImageSignatureRow {
  name: string
  version: string
  publisher: string
  /** An `ImageSignature` of domain/signature.ts, checked before it was stored. */
  document: string
  signed_at: string
  signed_by: string
}
