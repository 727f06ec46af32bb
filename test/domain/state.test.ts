import t from 'tap'
import {
  advance,
  isEnded,
  type NodeEvent,
  type NodeState,
  next,
  nodeTransitions,
  type ReinstallEvent,
  type ReinstallState,
  reinstallTransitions,
  type SessionEvent,
  type SessionState,
  sessionTransitions,
} from '../../src/domain/state.ts'

/**
 * The whole of each table, state by state and event by event, written out by hand: `.` is refused. A changed transition
 * must be changed here too, where it can be read as a rule.
 */
const sessionEvents: SessionEvent[] = [
  'redeem-stage2',
  'redeem-stage3',
  'redeem-join',
  'success',
  'epoxy-success',
  'fail',
  'expire',
  'supersede',
]
const sessions: Record<SessionState, string> = {
  stage1: 'stage2 . . . . failed expired superseded',
  stage2: '. stage3 . . . failed expired superseded',
  stage3: '. . joining . ready failed expired superseded',
  joining: '. . . ready . failed expired superseded',
  ready: '. . . . . . . .',
  failed: '. . . . . . . .',
  expired: '. . . . . . . .',
  superseded: '. . . . . . . .',
}

const nodeEvents: NodeEvent[] = [
  'approve',
  'open-session',
  'boot-local',
  'session-ready',
  'session-failed',
  'hold',
  'release',
  'disable',
  'enable',
]
const nodes: Record<NodeState, string> = {
  discovered: 'registered . . . . . . . .',
  registered: '. booting ready . . . . disabled .',
  booting: '. booting ready ready failed held . disabled .',
  ready: '. booting ready . . . . disabled .',
  failed: '. booting ready . . held . disabled .',
  held: '. . . . . . registered disabled .',
  disabled: '. . . . . . . . registered',
}

const reinstallEvents: ReinstallEvent[] = ['mark', 'cancel', 'expire', 'serve', 'success', 'session-ended']
const marks: Record<ReinstallState, string> = {
  none: 'marked . . . . .',
  marked: 'marked none none serving . .',
  serving: '. none . . none marked',
}

t.test('every state × every event', async (t) => {
  check('session', sessionTransitions, sessionEvents, sessions)
  check('node', nodeTransitions, nodeEvents, nodes)
  check('mark', reinstallTransitions, reinstallEvents, marks)

  function check<S extends string, E extends string>(
    what: string,
    table: Parameters<typeof next<S, E>>[0],
    events: readonly E[],
    expected: Record<S, string>,
  ): void {
    t.same(Object.keys(table).sort(), Object.keys(expected).sort(), `${what}: the same states`)
    const known = new Set<string>(events)
    for (const [state, row] of Object.entries(expected) as [S, string][]) {
      const cells = row.split(' ')
      t.equal(cells.length, events.length, `${what} ${state}: a cell for each event`)
      for (const event of Object.keys(table[state]))
        t.ok(known.has(event), `${what} ${state}: ${event} is in this test`)
      for (const [i, event] of events.entries()) {
        const to = cells[i]
        t.equal(next(table, state, event) ?? '.', to, `${what} ${state} + ${event}`)
        if (to === '.') t.throws(() => advance(table, state, event, 'it'), { code: 'conflict' })
        else t.equal(advance(table, state, event, 'it'), to)
      }
    }
  }
})

t.test('a session has ended exactly when nothing can happen to it', async (t) => {
  const ended = (Object.keys(sessionTransitions) as SessionState[]).filter(isEnded)
  t.same(ended, ['ready', 'failed', 'expired', 'superseded'])
})
