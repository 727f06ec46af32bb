import type { EventKind } from '../domain/event.ts'

/** A webhook. `url`, `secret` and `previous_secret` are sealed: a URL may hold a secret of its receiver's. */
export interface WebhookRow {
  /** Never given again: a webhook that is made under the name of one before is another. */
  id: string
  name: string
  url: string
  /** JSON: the kinds that are sent, as `parseKinds` reads them. */
  kinds: string
  /** A pattern of node names; null: events about any node or none. */
  node: string | null
  /** PEM: the only roots that the receiver is believed by; null: the system's. */
  ca: string | null
  secret: string
  /** What signed before, and until when it still does. */
  previous_secret: string | null
  previous_until: string | null
  /** Why nothing is sent; null while it is enabled. */
  disabled: 'operator' | 'gone' | null
  /** The id of the last event that was looked at for it. */
  cursor: number
  /** Nothing is sent before this time: the receiver asked for a pause. */
  paused_until: string | null
  /** Tries that failed since the last that did not. */
  failures: number
  /** Since when it has dead letters and no success; null while all is well. */
  failing_since: string | null
  revision: number
  created_at: string
  created_by: string
  updated_at: string
}

/** An event on its way to a webhook. */
export interface WebhookDeliveryRow {
  /** Its `webhook-id`. */
  id: string
  webhook: string
  event: number
  kind: EventKind
  node: string | null
  body: string
  state: 'waiting' | 'delivered' | 'dead'
  tries: number
  /** When it is tried again; whoever tries it moves this first, so that nobody else does. Set exactly while it waits. */
  next_at: string | null
  /** What came of the last try: a status, or words. */
  result: string | null
  created_at: string
  tried_at: string | null
  /** Set exactly when it does not wait. */
  ended_at: string | null
}
