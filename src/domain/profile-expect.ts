import Type, { type Static } from './schema.ts'
import type { Expected, ExpectedOf, TimedStage } from './usual-times.ts'

const seconds = Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 }))
const stages = Type.Object(
  { stage1: seconds, stage2: seconds, stage3: seconds, join: seconds } satisfies Record<TimedStage, unknown>,
  { additionalProperties: false },
)

/** How long a profile's stages usually take, in seconds, as it is written: for both sequences, or for each. */
export const expectationSchema = Type.Union([
  stages,
  Type.Object(
    { boot: Type.Optional(stages), reinstall: Type.Optional(stages) },
    { additionalProperties: false, minProperties: 1 },
  ),
])

/** The same for each sequence. */
export function expectedOf(written: Static<typeof expectationSchema>): ExpectedOf {
  // Stages have no such names.
  if ('boot' in written || 'reinstall' in written) {
    const { boot = {}, reinstall = {} } = written as Partial<ExpectedOf>
    return { boot, reinstall }
  }
  return { boot: written as Expected, reinstall: written as Expected }
}
