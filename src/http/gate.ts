import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { ProcessLoad, WorkKind } from '../domain/load.ts'
import { type Admission, type AdmissionLimits, openAdmission } from './admission.ts'
import { type ConnectionLimits, type Connections, openConnections } from './connections.ts'
import { type LargeBodies, openLargeBodies } from './large-bodies.ts'
import { openSites, type Sites } from './sites.ts'
import { openToldToWait, type ToldToWait } from './told-to-wait.ts'

/** Every bound of a process that serves boots. */
export interface GateLimits extends AdmissionLimits, ConnectionLimits {
  readonly maxHandshakesPerAddress: number
}

/** The defaults of the settings; a test compares. */
export const gateLimits: GateLimits = {
  maxBootWork: 64,
  maxBootQueue: 5000,
  maxBootWaitSeconds: 15,
  maxRetryAfterSeconds: 120,
  maxDownloads: 2000,
  maxDownloadsPerSession: 8,
  maxConnections: 20_000,
  maxConnectionsPerAddress: 10_000,
  maxNewConnectionsPerAddress: 1000,
  maxHandshakesPerAddress: 5000,
}

/** How much a process takes at a time: one for all boot listeners that it has. */
export interface Gate {
  readonly limits: GateLimits
  readonly admission: Admission
  readonly bodies: LargeBodies
  readonly connections: Connections
  readonly sites: Sites
  readonly told: ToldToWait
  /** A front counts its handshakes here. */
  readonly fronts: Set<HandshakeCount>
  /** How it is now, in numbers, for the heartbeat and for metrics. */
  load(): ProcessLoad
  close(): void
}

/** Handshakes of one listener. */
export interface HandshakeCount {
  readonly halfOpen: () => number
  readonly waiting: () => number
}

/** What a gate is made of. */
export interface GateOptions {
  readonly limits?: Partial<GateLimits>
  readonly clock?: () => Date
  /** Seconds of a clock that only runs forward. */
  readonly now?: () => number
  readonly random?: () => number
}

const lagResolutionMilliseconds = 20

/** Opens the gate of this process. */
export function openGate(options: GateOptions = {}): Gate {
  const limits = { ...gateLimits, ...options.limits }
  const { now = () => performance.now() / 1000, random = Math.random } = options
  // For people alone: since when who waits.
  const { clock = () => new Date(performance.timeOrigin + performance.now()) } = options
  const loop = openLag(now)
  const admission = openAdmission({ limits, now, random, lagSeconds: loop.seconds })
  const connections = openConnections(limits, now)
  const told = openToldToWait(clock)
  const fronts = new Set<HandshakeCount>()
  const sum = (of: (front: HandshakeCount) => number): number =>
    [...fronts].reduce((total, front) => total + of(front), 0)
  return {
    limits,
    admission,
    bodies: openLargeBodies(),
    connections,
    sites: openSites(now),
    told,
    fronts,
    load() {
      const { user, system } = process.cpuUsage()
      return {
        ...admission.stats(),
        ...told.stats(),
        connections: connections.count(),
        closed: connections.closed(),
        handshakes: sum((front) => front.halfOpen()),
        handshakesWaiting: sum((front) => front.waiting()),
        eventLoopLagSeconds: loop.seconds(),
        memoryBytes: process.memoryUsage.rss(),
        cpuSeconds: (user + system) / 1e6,
      }
    },
    close: () => loop.close(),
  }
}

/** How late the event loop was, at the worst, within the last second or two. */
function openLag(now: () => number): { readonly seconds: () => number; close(): void } {
  const histogram = monitorEventLoopDelay({ resolution: lagResolutionMilliseconds })
  histogram.enable()
  let since = now()
  let before = 0
  const worst = (): number => Math.max(0, histogram.max / 1e9 - lagResolutionMilliseconds / 1000)
  return {
    seconds() {
      if (now() - since >= 1) {
        before = worst()
        histogram.reset()
        since = now()
      }
      return Math.max(before, worst())
    },
    close: () => histogram.disable(),
  }
}

/** What each route of the boot listener is to admission. Those of `undefined` ask no database: they wait for nobody. */
export const workOfRoutes: Readonly<Record<string, WorkKind | undefined>> = {
  '/_ah/health': undefined,
  '/v1/boot/autoexec.ipxe': undefined,
  '/v1/enrol.ipxe': 'new',
  '/v1/boot/stage1.ipxe': 'new',
  '/v1/boot/:host/stage1.ipxe': 'new',
  '/v1/boot/:host/stage1.json': 'new',
  '/v1/boot/:host/handover': 'running',
  '/v1/boot/:host/stage2': 'running',
  '/v1/boot/:host/stage3': 'running',
  '/v1/boot/:host/join': 'running',
  '/v1/boot/:host/:token/stage2': 'running',
  '/v1/boot/:host/:token/stage3': 'running',
  '/v1/boot/:host/extension/:operation': 'running',
  '/v1/boot/:host/:token/extension/:operation': 'running',
  '/v1/extensions/jwks.json': 'new',
  '/v1/boot/:host/report': 'report',
  '/v1/boot/:host/secret': 'report',
  '/v1/boot/:host/log': 'report',
  '/v1/boot/:host/identity/key': 'running',
  '/v1/boot/:host/identity': 'running',
  '/.well-known/openid-configuration': 'running',
  '/.well-known/jwks.json': 'running',
  '/v1/boot/:host/:token/report': 'report',
  '/v1/boot/:host/:token/nocloud/:file': 'running',
  '/v1/boot/:host/:token/ignition': 'running',
  '/v1/boot/:host/artifacts/:role': 'download',
  '/v1/artifacts/sha256/:digest': 'download',
  '/v1/ipxe/:file': 'download',
  '/v1/ipxe/node/:host/:file': 'download',
}
