import type { EventKind } from './event.ts'

/** The stages of a boot whose time is taken, in order. */
export type StageName = 'stage1' | 'stage2' | 'stage3' | 'join' | 'report'

/** The stage that an event opens: the one before it is done. */
export const stageOpenedBy: Readonly<Partial<Record<EventKind, StageName>>> = {
  'session-opened': 'stage1',
  'stage2-redeemed': 'stage2',
  'stage3-redeemed': 'stage3',
  'join-redeemed': 'join',
  'session-ready': 'report',
}

/** The events that end a session, and what became of it. Each session has one of them. */
export const sessionOutcomes = {
  'session-ready': 'ready',
  'booted-local': 'local',
  'session-failed': 'failed',
  'session-expired': 'expired',
  'session-superseded': 'superseded',
} as const satisfies Readonly<Partial<Record<EventKind, string>>>

/** What became of the session that an event ends; undefined where it ends none. */
export function outcomeOf(kind: EventKind): string | undefined {
  return (sessionOutcomes as Readonly<Partial<Record<EventKind, string>>>)[kind]
}
