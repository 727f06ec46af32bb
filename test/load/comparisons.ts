import { api } from './api.ts'
import { connectionMemory } from './connections.ts'
import { handshakes } from './handshakes.ts'
import { imageBytes, plainImageBytes } from './images.ts'
import type { Comparison } from './measure.ts'
import { postgresRedemptions, redemptionLatency, redemptions } from './redemptions.ts'
import { replicaGrowth, replicaLimit } from './replicas.ts'
import { stageRequests, wholeBoots } from './stages.ts'
import { listTimes, startTime } from './start.ts'
import { starvation } from './starvation.ts'
import { tftp } from './tftp.ts'

/** All that is compared, in the order of docs/performance.md. */
export const comparisons: readonly Comparison[] = [
  imageBytes,
  plainImageBytes,
  handshakes,
  stageRequests,
  wholeBoots,
  api,
  starvation,
  tftp,
  redemptions,
  postgresRedemptions,
  redemptionLatency,
  replicaGrowth,
  replicaLimit,
  connectionMemory,
  startTime,
  listTimes,
]
