import type { Logger } from 'pino'
import type { StorySteps } from '../boot/story.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { Ask, FromKeeper, SideName } from './messages.ts'
import { packError } from './packed-error.ts'

/** What answers. */
export interface AnswerOptions {
  /** The story of a listener; undefined where that one is gone. */
  readonly story: (side: SideName) => StorySteps | undefined
  readonly log: Logger
}

/** Answers a step that a worker asked for; never throws. What is no error of ours is in this process's log. */
export async function answerAsk(
  { story, log }: AnswerOptions,
  { id, side, step, args }: Ask,
): Promise<FromKeeper<never>> {
  try {
    const steps = story(side)
    if (steps === undefined) throw new PawlError('overloaded', 'this listener has closed')
    // A worker names the steps that its own story has (`askedSteps`), with that step's arguments.
    const take = steps[step] as (...args: readonly unknown[]) => Promise<unknown>
    return { kind: 'answer', id, value: await take(...args) }
  } catch (error) {
    if (!isPawlError(error)) log.error({ err: error, step }, 'a step failed that a worker asked for')
    return { kind: 'error', id, error: packError(error) }
  }
}
