import { named, type Setting } from './config-setting.ts'
import { wholeNumber } from './config-values.ts'

/** What is measured. */
export const metricsSettings = {
  metricsNodes: {
    ...named('metrics-nodes', 'count', '20000'),
    meaning:
      'Nodes that have metrics of their own (`epoxy_last_boot` and the like), the first by name; 0: none. Each is three series.',
    parse: wholeNumber(0, 200_000),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
