import { named, type Setting } from './config-setting.ts'
import { wholeNumber } from './config-values.ts'

/** Several servers on one database. */
export const replicaSettings = {
  drainSeconds: {
    ...named('drain-seconds', 'seconds', '0'),
    meaning:
      'How long a server that is told to stop serves on while `/readyz` says no, so that balancers send nobody to it any more. A little more than they take to notice.',
    parse: wholeNumber(0, 600),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
