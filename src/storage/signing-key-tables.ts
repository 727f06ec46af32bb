/** A key that signs, of those of one ring (`boot/key-ring.ts`). Each ring has a table of its own, of these columns. */
export interface SigningKeyRow {
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
  /** Nothing that it signed is good any more, and it is published no longer; null while it is the last one. */
  ends_at: string | null
}
