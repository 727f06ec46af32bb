/** The key of TLS session tickets of one period. */
export interface TicketKeyRow {
  /** Whole periods since 1970. */
  period: number
  /** The 48 bytes in base64, sealed by the settings key. */
  sealed: string
  made_at: string
}
