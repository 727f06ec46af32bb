import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import type { Heartbeat, ProcessIdentity, ServerClaim } from './domain/load.ts'
import { type Connections, openConnections } from './http/connections.ts'
import { type Gate, openGate } from './http/gate.ts'
import { type Heart, heartbeatMilliseconds, openHeart } from './http/heartbeat.ts'
import type { HttpLimits } from './http/limits.ts'

/** Files that are no connections: the database, artifacts, sockets to it, and some to spare. */
const otherFiles = 1000

/** The bounds of a process that serves machines, from the settings and from what the system allows. */
export function openLimits(
  config: Config,
  log: Logger,
): { readonly limits: HttpLimits; readonly gate: Gate } {
  const files = maxOpenFiles()
  const possible = Math.max(100, files - Math.min(otherFiles, Math.floor(files / 4)))
  const maxConnections = Math.min(config.maxConnections, possible)
  if (maxConnections < config.maxConnections) {
    log.warn(
      { maxConnections: config.maxConnections, possible, openFiles: files },
      'maxConnections is more than this process may open files for: the system’s limit counts',
    )
  }
  return { limits: httpLimitsOf(config), gate: openGate({ limits: { ...config, maxConnections } }) }
}

/** The bounds of the operator listener's connections. */
export function operatorConnections(config: Config): Connections {
  return openConnections({ ...config, maxConnections: config.maxOperatorConnections })
}

/** The bounds on one connection, of both listeners. */
export function httpLimitsOf(config: Config): HttpLimits {
  const { headerTimeoutSeconds, maxHeaderBytes, handshakeTimeoutSeconds } = config
  const { stallTimeoutSeconds, maxRequestsPerConnection } = config
  return {
    headerTimeoutSeconds,
    maxHeaderBytes,
    handshakeTimeoutSeconds,
    stallTimeoutSeconds,
    maxRequestsPerConnection,
  }
}

/** How a process says of itself what it does, every few seconds, until it ends. */
export interface RunningHeart extends Heart {
  /** Stops, and forgets the process. */
  stop(): Promise<void>
}

/** Whose heart it is. */
export interface HeartOptions {
  readonly role: ProcessIdentity['role']
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
  readonly hostName?: string
  /** What a server says beside. */
  readonly claim?: () => Promise<ServerClaim>
}

/** Begins to say it. What cannot be written is told once, and said again in the next beat. */
export function startHeart(
  gate: Gate,
  { role, clock, log, hostName = hostname(), claim }: HeartOptions,
  take: (beat: Heartbeat) => Promise<Readonly<Record<string, string>>>,
): RunningHeart {
  const { pid } = process
  const identity = { host: hostName, pid, role, startedAt: clock().toISOString() }
  const heart = openHeart(gate, identity, take, claim)
  let failed = false
  const beat = (): void => {
    heart.beat().then(
      () => {
        failed = false
      },
      (error: unknown) => {
        if (!failed) log.warn({ err: error }, 'what this process does cannot be written down')
        failed = true
      },
    )
  }
  const timer = setInterval(beat, heartbeatMilliseconds).unref()
  beat()
  return {
    ...heart,
    async stop() {
      clearInterval(timer)
      await heart.end().catch(() => {}) // its row is forgotten when it is old
      gate.close()
    },
  }
}

/** How many files this process may have open; Node has raised its soft limit to the hard one. */
function maxOpenFiles(): number {
  try {
    const [, soft = ''] = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
    return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft) || 1024
  } catch {
    return Number.MAX_SAFE_INTEGER // no /proc: the system will say when there are too many
  }
}
