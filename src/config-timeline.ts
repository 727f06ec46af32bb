import { named, type Setting } from './config-setting.ts'
import { zeroOr } from './config-values.ts'

/** How boots are remembered. */
export const timelineSettings = {
  timelineRetentionDays: {
    ...named('timeline-retention-days', 'days', '90'),
    meaning:
      'Boot sessions are removed so many days after their end, with their timelines and consoles; of each node its last boot stays, and the last that ended in each way. Events stay. 0: they are kept for ever.',
    parse: zeroOr(1, 36_500),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
