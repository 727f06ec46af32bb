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
}
