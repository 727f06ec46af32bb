import type { Role } from './tables.ts'

/** A person whom the OpenID Connect provider knows; made at the first sign-in. */
export interface PersonRow {
  id: string
  issuer: string
  /** The provider's own name of the account (`sub`), which it never gives to another. */
  subject: string
  /** `oidc/…`: what events call the person. */
  name: string
  first_seen_at: string
  last_seen_at: string
}

/** A browser that is signed in. It goes when it is over. */
export interface OperatorSessionRow {
  id: string
  secret_hash: string
  person: string
  role: Role
  /** The address that signed in. */
  source: string
  created_at: string
  last_seen_at: string
  expires_at: string
}

/** A command line that waits for a person to confirm its code in a browser. */
export interface LoginRequestRow {
  id: string
  secret_hash: string
  code: string
  /** What it says of itself; it may lie. */
  label: string
  source: string
  source_unit: string
  created_at: string
  expires_at: string
  polled_at: string | null
  state: 'waiting' | 'approved' | 'denied'
  person: string | null
  role: Role | null
}

/** A machine's client certificate; the key was never here. */
export interface OperatorCertificateRow {
  id: string
  /** SHA-256 of its DER, lower-case hex. */
  fingerprint: string
  name: string
  role: Role
  scope: string | null
  created_at: string
  created_by: string
  expires_at: string
  revoked_at: string | null
  last_used_at: string | null
  last_used_from: string | null
}
