import type { ExtensionOutcome, ExtensionService } from '../boot/extension.ts'
import { type AskOptions, askService } from './ask.ts'

/** How many questions are under way at a time, of one process: a service that hangs must not hold what others need. */
export const askLimits = { all: 48, ofOperation: 16, ofSession: 1 } as const

/** Opens what asks services, within bounds. */
export function openExtensionService(options: AskOptions = {}): ExtensionService {
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
        [`session ${question.session} ${operation}`, askLimits.ofSession, 'this boot asks for it already'],
        [`operation ${operation}`, askLimits.ofOperation, 'as many boots as may ask for it'],
        ['all', askLimits.all, 'as many boots as may ask for extensions'],
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
