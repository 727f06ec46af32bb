/** A signed checkpoint of the event log. */
export interface CheckpointRow {
  seq: number
  /** The signed statement, a compact JWS. */
  jws: string
  /** SHA-256 of `jws`: what the next checkpoint names as the one before it. */
  digest: string
  at: string
  kid: string
  chains: number
  events: number
}

/** Where a chain was when a checkpoint was signed; chains that had not moved since the one before have no row. */
export interface CheckpointHeadRow {
  chain: string
  checkpoint: number
  base_seq: number
  seq: number
  hash: string
}

/** A key that signs, or signed, checkpoints: its public half. */
export interface CheckpointKeyRow {
  kid: string
  jwk: string
  created_at: string
  retired_at: string | null
}
