/** A root by which a node booted. */
export interface NodeRootRow {
  node: string
  /** SHA-256 of the root's DER. */
  root: string
  first_at: string
  last_at: string
  last_source: string
}
