/** A server on this database, as it told of itself last. */
export interface ReplicaRow {
  id: string
  host: string
  pid: number
  version: string
  /** Whether it did then what must be done once. */
  leads: number
  started_at: string
  seen_at: string
  /** JSON: what must be the same on all, by name. Fingerprints of keys, never keys. */
  marks: string
}
