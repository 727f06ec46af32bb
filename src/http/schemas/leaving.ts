import Type from '../../domain/schema.ts'
import type { LeavingView } from '../../fleet/leaving-view.ts'
import { answers, oneOf, textOrNull } from './answers.ts'

/** How a node is to leave. */
export const leaveWish = Type.Union(
  [
    Type.Null(),
    Type.Object(
      { force: Type.Optional(Type.Boolean({ description: 'Although its last reinstalls all failed.' })) },
      { additionalProperties: false },
    ),
  ],
  { title: 'LeaveWish' },
)

const states = ['draining', 'marked', 'rebooting', 'cancelling', 'done', 'failed', 'cancelled'] as const

/** How far a node has come on its way out of its cluster. */
export const leavingAnswer = answers<LeavingView>('Leaving')(
  Type.Object({
    id: Type.String(),
    node: Type.String(),
    profile: Type.String(),
    state: oneOf(states),
    hook: oneOf(['kubernetes', 'webhook']),
    reboot: oneOf(['webhook', 'operator']),
    waitsFor: textOrNull,
    cause: textOrNull,
    cordoned: Type.Boolean(),
    marked: Type.Boolean(),
    startedBy: Type.String(),
    startedAt: Type.String(),
    changedAt: Type.String(),
    deadline: Type.String(),
    endedAt: textOrNull,
  }),
)
