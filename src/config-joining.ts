import { named, type Setting } from './config-setting.ts'
import { wholeNumber } from './config-values.ts'

/** Credentials that a cluster makes for one boot (docs/joining.md). */
export const joiningSettings = {
  joinCredentialSeconds: {
    ...named('join-credential-seconds', 'seconds', '300'),
    meaning:
      'How long a credential that was made for one boot lets its node in, where the profile does not say. The end of the boot removes it before.',
    parse: wholeNumber(60, 3600),
  },
  clusterTimeoutSeconds: {
    ...named('cluster-timeout-seconds', 'seconds', '8'),
    // Three calls of a make and the wait for a turn stay below the 60 s for which an agent waits for an answer.
    meaning:
      'How long the API of a cluster may take to answer one call. A node waits for it, and comes again.',
    parse: wholeNumber(1, 15),
  },
  maxClusterCalls: {
    ...named('max-cluster-calls', 'count', '8'),
    meaning:
      'Calls of one process to one cluster at a time; twice as many nodes wait for theirs. Who comes beyond that is told to come again (503, `Retry-After`).',
    parse: wholeNumber(1, 16),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
