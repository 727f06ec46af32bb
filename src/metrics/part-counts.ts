import type { BootMeter } from '../boot/meter.ts'
import { extensionLimits } from '../domain/extension.ts'
import { backendCalls, backendFaults, type JoinMeter } from '../domain/join-credential.ts'
import {
  type CacheMeter,
  cacheAnswers,
  cacheNames,
  type TftpMeter,
  tftpOutcomes,
  tftpRefusals,
} from '../domain/meters.ts'
import type { Instruments } from './instruments.ts'
import type { processMetrics } from './process-table.ts'

type Counters = Pick<Instruments<typeof processMetrics>, 'counter'>
type Histograms = Pick<Instruments<typeof processMetrics>, 'histogram'>

/** A way of ending that has not occurred is a zero, not a gap. */
export function beginPartsAtZero({ counter }: Counters): void {
  for (const outcome of tftpOutcomes) counter('pawl_tftp_transfers_ended_total').inc({ outcome }, 0)
  for (const cause of tftpRefusals) counter('pawl_tftp_refusals_total').inc({ cause }, 0)
  for (const call of backendCalls)
    for (const outcome of ['done', ...Object.keys(backendFaults)])
      counter('pawl_join_calls_total').inc({ call, outcome }, 0)
  for (const cache of cacheNames)
    for (const answer of cacheAnswers) counter('pawl_artifact_cache_requests_total').inc({ cache, answer }, 0)
}

/** Counts questions to extensions: their names are an operator's, so that of many the last ones have none. */
export function extensionsInto({ counter }: Counters): BootMeter['extension'] {
  const operations = new Set<string>()
  return (operation, outcome) => {
    if (operations.size < extensionLimits.extensions) operations.add(operation)
    const known = operations.has(operation) ? operation : 'other'
    counter('pawl_extension_requests_total').inc({ operation: known, outcome })
  }
}

/** Counts what TFTP tells. */
export function tftpInto({ counter }: Counters): TftpMeter {
  return {
    began: () => counter('pawl_tftp_transfers_begun_total').inc(),
    ended: (outcome, bytes) => {
      counter('pawl_tftp_transfers_ended_total').inc({ outcome })
      counter('pawl_tftp_bytes_total').inc(bytes)
    },
    refused: (cause) => counter('pawl_tftp_refusals_total').inc({ cause }),
  }
}

/** Counts what the caches of artifacts had. */
export function cacheInto({ counter }: Counters): CacheMeter {
  const asked = counter('pawl_artifact_cache_requests_total')
  return (cache, answer) => asked.inc({ cache, answer })
}

/** Counts calls to clusters. */
export function joinsInto({ counter, histogram }: Counters & Histograms): JoinMeter {
  const durations = histogram('pawl_join_call_duration_seconds')
  return {
    called(call, outcome, seconds) {
      counter('pawl_join_calls_total').inc({ call, outcome })
      durations.observe({ call }, seconds)
    },
    busy: () => counter('pawl_join_busy_total').inc(),
  }
}
