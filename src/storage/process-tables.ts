/** A process of the server, as it said of itself last. */
export interface ProcessRow {
  /** Random, one each start. */
  id: string
  host: string
  pid: number
  /** `server`, `keeper` or `worker`. */
  role: string
  started_at: string
  seen_at: string
  /** A ProcessLoad, at most 64 KB. */
  stats: string
  /** Null for workers, as what follows. */
  version: string | null
  /** Whether it did then what must be done once. */
  leads: number | null
  /** JSON: what must be the same on all servers, by name; fingerprints of keys, never keys. Null where it is the only one. */
  marks: string | null
}
