/** The token of a URL that cloud-init or Ignition asks. */
export interface JoinSeedRow {
  id: string
  session: string
  kind: SeedKind
  secret_hash: string
  issued_at: string
  expires_at: string
  /** How often each file was asked for: a JSON object of counts. */
  asked: string
}

/** `ignition-boot` is for the initramfs, and is on a kernel's command line; the others are for the full system. */
export type SeedKind = 'nocloud' | 'ignition' | 'ignition-boot'
