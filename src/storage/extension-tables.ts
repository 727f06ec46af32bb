/** A service that nodes may ask. `url` and `client_key` are sealed: a URL may hold a secret of its service's. */
export interface ExtensionRow {
  operation: string
  url: string
  timeout_seconds: number
  max_answer_bytes: number
  /** JSON: media types. */
  answer_types: string
  /** PEM: the only roots that the service is believed by; null: the system's. */
  ca: string | null
  /** PEM; null where the service wants none. */
  client_certificate: string | null
  client_key: string | null
  revision: number
  created_at: string
  created_by: string
  updated_at: string
}

/** How often a boot has asked for an operation. */
export interface ExtensionCallRow {
  session: string
  operation: string
  count: number
}
