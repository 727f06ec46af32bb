/** The key that a node made in a boot session. */
export interface NodeIdentityRow {
  /** RFC 7638, SHA-256. */
  thumbprint: string
  node: string
  session: string
  jwk: string
  registered_at: string
  /** When the last document was given out, and until when that is good. */
  issued_at: string | null
  issued_until: string | null
  issued_count: number
  /** A JSON list of those that documents were given out for. */
  audiences: string
}

/** A proof of possession that was used. */
export interface IdentityProofRow {
  thumbprint: string
  jti: string
  /** It is refused for its age from here on. */
  ends_at: string
}
