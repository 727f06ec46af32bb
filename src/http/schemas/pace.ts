import { paces } from '../../domain/pace.ts'
import { type PaceCode, paceReasons } from '../../domain/pace-reason.ts'
import Type from '../../domain/schema.ts'
import type { PaceView } from '../../fleet/paces.ts'
import { answers, oneOf, textOrNull } from './answers.ts'

const pace = oneOf(paces)
const seconds = Type.Union([Type.Number(), Type.Null()])

/** A node's pace in one word. */
export const paceOrNull = Type.Union([pace, Type.Null()], {
  description: 'How the boot under way comes along, to a quarter of a minute; null where none is.',
})

/** Since when a node loops. */
export const looping = Type.Union(
  [Type.Null(), Type.Object({ since: Type.String(), heldBackUntil: textOrNull })],
  {
    description: 'It boots again and again without a report, and waits before each boot.',
  },
)

/** The pace of a session, with why. */
export const paceView = answers<PaceView>('Pace')(
  Type.Object({
    state: pace,
    since: Type.String(),
    code: Type.Union([oneOf(Object.keys(paceReasons) as PaceCode[]), Type.Null()]),
    reason: textOrNull,
    hint: textOrNull,
  }),
)

/** What is usual for a stage. */
export const stagePace = {
  usualSeconds: seconds,
  slowAfterSeconds: seconds,
  stuckAfterSeconds: seconds,
  usualFrom: Type.Union([oneOf(['profile', 'learned', 'default']), Type.Null()]),
}
