import type { BackendCall, JoinMeter } from '../../src/domain/join-credential.ts'
import { openBrokers } from '../../src/joining/brokers.ts'
import { type CallLimits, openBackendCalls } from '../../src/joining/calls.ts'
import { type Joining, openBackground } from '../../src/joining/joining.ts'
import type { KubernetesStandIn } from './kubernetes-api.ts'

/** What was counted, as `make done`. */
export type Counted = string[]

/** Who makes join credentials in a test: the brokers that are served, with bounds and a timeout of the test's. */
export function joiningOf(
  options: {
    readonly clock?: () => Date
    readonly timeoutSeconds?: number
    readonly limits?: Partial<CallLimits>
    readonly counted?: Counted
    readonly errors?: unknown[]
  } = {},
): Joining {
  const { timeoutSeconds = 5, counted = [], errors = [] } = options
  const limits = { calls: 8, waiting: 16, waitMilliseconds: 3000, restMilliseconds: 0, ...options.limits }
  const meter: JoinMeter = {
    called: (call: BackendCall, outcome) => counted.push(`${call} ${outcome}`),
    busy: () => counted.push('busy'),
  }
  const now = (): number => performance.now()
  return {
    broker: openBrokers({
      clock: options.clock ?? (() => new Date()),
      timeoutMilliseconds: timeoutSeconds * 1000,
    }),
    making: openBackendCalls(limits, now),
    removing: openBackendCalls({ ...limits, calls: 4, waiting: 30 }, now),
    limits: { lifetimeSeconds: 300, timeoutSeconds },
    meter,
    ...openBackground((error) => errors.push(error)),
  }
}

/** A profile whose boots join the stand-in. */
export function joiningProfile(
  api: KubernetesStandIn,
  settings: Readonly<Record<string, unknown>> = {},
): { name: string } & Record<string, unknown> {
  const join = {
    kind: 'kubeadm',
    settings: { endpoint: new URL(api.url).host, kubeconfig: api.kubeconfig(), ...settings },
  }
  return {
    name: 'demo',
    evidence: ['secret'],
    boot: { stage2: 'small@1', stage3: 'full@1', join },
    reinstall: { stage2: 'small@1', stage3: 'full@2', join: { kind: 'none' } },
  }
}

/** The bootstrap tokens that stand there, by their Secrets' names. */
export function tokensAt(api: KubernetesStandIn): string[] {
  return [...api.objects.keys()].flatMap((path) =>
    path.startsWith('/api/v1/namespaces/kube-system/secrets/') ? [path.split('/').at(-1) ?? ''] : [],
  )
}
