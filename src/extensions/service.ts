import type { ExtensionOutcome, ExtensionService } from '../boot/extension.ts'
import { type AskOptions, askService } from './ask.ts'

/** How many questions are under way at a time, of one process. */
export interface QuestionLimits {
  readonly all: number
  readonly ofOperation: number
  readonly ofSession: number
}

/**
 * The bounds where a process works on `maxBootWork` boot requests at a time. A question is one of them for as long as its service thinks:
 * services that hang leave a quarter of the places to boots, and one of them a third of the rest to the others.
 */
export function questionLimits(maxBootWork: number): QuestionLimits {
  const all = Math.max(1, Math.min(48, Math.floor(maxBootWork * 0.75)))
  return { all, ofOperation: Math.max(1, Math.min(16, Math.ceil(all / 3))), ofSession: 1 }
}

/** Opens what asks services, within bounds. */
export function openExtensionService({
  maxBootWork,
  ...options
}: AskOptions & { readonly maxBootWork: number }): ExtensionService {
  const limits = questionLimits(maxBootWork)
  const running = new Map<string, number>()
  const count = (key: string): number => running.get(key) ?? 0
  const add = (key: string, by: number): void => {
    const now = count(key) + by
    if (now === 0) running.delete(key)
    else running.set(key, now)
  }
  return {
    async ask(context, question): Promise<ExtensionOutcome> {
      const { operation } = question.extension
      const bounds: readonly (readonly [string, number, string])[] = [
        [`session ${question.session} ${operation}`, limits.ofSession, 'this boot asks for it already'],
        [`operation ${operation}`, limits.ofOperation, 'as many boots as may ask for it'],
        ['all', limits.all, 'as many boots as may ask for extensions'],
      ]
      const full = bounds.find(([key, most]) => count(key) >= most)
      if (full !== undefined) return { kind: 'failed', fault: 'busy', reason: full[2] }
      for (const [key] of bounds) add(key, 1)
      try {
        return await askService(context, question, options)
      } finally {
        for (const [key] of bounds) add(key, -1)
      }
    },
  }
}
