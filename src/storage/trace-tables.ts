/** How far traces were exported: there is one row, whose id is 1. */
export interface TraceCursorRow {
  id: number
  /** The id of the last event whose session was exported, or given up. */
  event: number
}
