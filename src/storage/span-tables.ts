import type { SpanKind } from '../domain/span.ts'
import type { StageName } from '../domain/stage.ts'

/** One span of a boot session. */
export interface SessionSpanRow {
  session: string
  /** Null: whichever stage was open then. */
  stage: StageName | null
  kind: SpanKind
  at: string
  seconds: number
  bytes: number | null
  detail: string | null
  /** The client's User-Agent. */
  agent: string | null
  /** `ClientTls` as JSON. */
  tls: string | null
  /** Whether the node's agent measured it. */
  told: number
  /** How often: those beyond the bound are counted on the last one. */
  times: number
}

/** The last lines of a console, as a node's agent sent them. */
export interface SessionLogRow {
  session: string
  /** Whose console: the agent's own word. */
  stage: StageName
  at: string
  text: string
  /** How often it was sent; the last one is kept. */
  times: number
}
