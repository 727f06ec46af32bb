import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import type { JoinMeter } from './domain/join-credential.ts'
import { openBrokers } from './joining/brokers.ts'
import { type CallLimits, openBackendCalls } from './joining/calls.ts'
import { type Joining, openBackground } from './joining/joining.ts'

/** What joining is opened with. */
export interface JoiningOptions {
  readonly config: Pick<
    Config,
    'joinCredentialSeconds' | 'clusterTimeoutSeconds' | 'maxClusterCalls' | 'maxBootWork'
  >
  readonly clock: Clock
  readonly meter: JoinMeter
  readonly onError: (error: unknown) => void
}

/** A join waits so long for its turn: with its call it is answered before its worker or a proxy gives it up. */
const waitMilliseconds = 3000
/** A cluster that did not answer is left alone for so long. */
const restMilliseconds = 5000
/** Nobody waits for removals. */
const removals: CallLimits = { calls: 4, waiting: 30, held: 40, waitMilliseconds: 60_000, restMilliseconds }

/** How this process has credentials made and removed. */
export function openJoining({ config, clock, meter, onError }: JoiningOptions): Joining {
  const { joinCredentialSeconds, clusterTimeoutSeconds, maxClusterCalls, maxBootWork } = config
  const now = (): number => performance.now()
  const held = Math.max(1, Math.min(40, Math.floor(maxBootWork * 0.625)))
  const making = {
    calls: maxClusterCalls,
    waiting: 2 * maxClusterCalls,
    held,
    waitMilliseconds,
    restMilliseconds,
  }
  return {
    broker: openBrokers({ clock, timeoutMilliseconds: clusterTimeoutSeconds * 1000 }),
    making: openBackendCalls(making, now),
    removing: openBackendCalls(removals, now),
    limits: { lifetimeSeconds: joinCredentialSeconds, timeoutSeconds: clusterTimeoutSeconds },
    meter,
    ...openBackground(onError),
  }
}
