/** A key that signs the identity documents of nodes. */
export interface IdentityKeyRow {
  /** Counted up: of two that make the next key at once, one does. */
  generation: number
  /** The RFC 7638 thumbprint of its public half. */
  kid: string
  /** The public half, a JSON Web Key. */
  jwk: string
  /** The private half in PKCS#8 PEM, sealed by the settings key. */
  sealed: string
  made_at: string
  /** It is published from the moment it is made, and signs from here on until a later one does. */
  signs_from: string
  /** No document under it is good any more, and it is published no longer; null while it is the last one. */
  ends_at: string | null
}

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
