/** The first answer to a request that may come again. */
export interface IdempotentAnswerRow {
  actor: string
  key_hash: string
  /** What was asked, as an HMAC under the key: the same key may not be used for another request. */
  request: string
  /** Sealed under the key; null only inside the transaction that makes it. */
  answer: string | null
  created_at: string
}
