import type { LeavingRow } from '../storage/leaving-tables.ts'

/** What came of one step of a hook. */
export type StepOutcome =
  | { readonly kind: 'done'; readonly changes?: Partial<LeavingRow> }
  /** Something is to be written down before it goes on. */
  | { readonly kind: 'again'; readonly changes: Partial<LeavingRow> }
  | { readonly kind: 'waits'; readonly waitsFor: string; readonly seconds: number }
  | { readonly kind: 'failed'; readonly cause: string }
  /** An operator or another server wrote a step meanwhile: nothing was changed, and nothing is written. */
  | { readonly kind: 'overtaken' }
