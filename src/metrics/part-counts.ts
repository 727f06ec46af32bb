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

/** A way of ending that has not occurred is a zero, not a gap. */
export function beginPartsAtZero({ counter }: Counters): void {
  for (const outcome of tftpOutcomes) counter('pawl_tftp_transfers_ended_total').inc({ outcome }, 0)
  for (const cause of tftpRefusals) counter('pawl_tftp_refusals_total').inc({ cause }, 0)
  for (const cache of cacheNames)
    for (const answer of cacheAnswers) counter('pawl_artifact_cache_requests_total').inc({ cache, answer }, 0)
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
