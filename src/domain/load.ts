/**
 * How much a process of the server has to do, as its heartbeat tells it: plain data, for the table `processes`, for `pawl status`,
 * and for metrics. Seconds, bytes, counts.
 */
export interface ProcessLoad {
  /** Boot requests in work, and waiting for it. */
  readonly working: number
  readonly waiting: number
  /** How long the one has waited that waits longest. */
  readonly longestWaitSeconds: number
  /** Requests served in a second, as measured while others waited; null before that. */
  readonly servedPerSecond: number | null
  /** Since the process began. */
  readonly admitted: number
  /** Of those, which waited first. */
  readonly waited: number
  readonly waitedSeconds: number
  /** Told to come again: the queue was full, or waiting would have taken too long. */
  readonly toldToWait: number
  /** Their requests by kind. */
  readonly toldToWaitBy: Readonly<Record<WorkKind, number>>
  /** Sites (source prefixes, or labels `site`) that have someone in the queue. */
  readonly sites: number
  /** When the overload began that is not over yet; null where there is none. */
  readonly overloadedSince: string | null
  readonly downloads: number
  readonly connections: number
  readonly handshakes: number
  /** Handshakes that wait for their turn. */
  readonly handshakesWaiting: number
  /** Connections that were closed because of a limit, by limit, since the process began. */
  readonly closed: Readonly<Record<ConnectionLimit, number>>
  readonly eventLoopLagSeconds: number
  readonly memoryBytes: number
  /** CPU time since the process began. */
  readonly cpuSeconds: number
  /** The nodes that were told to come again and have not come yet, those told last first; bounded. */
  readonly nodes: readonly WaitingNode[]
  /** How many of them there was no room for, without the bound. */
  readonly nodesWaiting: number
}

/** What boots ask for, in the order of who goes first. */
export type WorkKind = (typeof workKinds)[number]
export const workKinds = ['report', 'running', 'new', 'download'] as const

/** Why a connection was closed that did nothing wrong, or not taken. */
export type ConnectionLimit = (typeof connectionLimits)[number]
export const connectionLimits = [
  'connections',
  'connections-of-address',
  'new-connections-of-address',
  'handshakes-of-address',
  'requests-at-once',
] as const

/** A node that asked and was told to come again. Its name is what the request said: nobody had proved it. */
export interface WaitingNode {
  readonly node: string
  /** What it asked for: a route's name. */
  readonly request: string
  readonly source: string
  /** When it was told first, and last. */
  readonly since: string
  readonly at: string
  readonly times: number
  /** When it was told to come. */
  readonly until: string
  /** What its join waits for, in words; left out where the server had no room. */
  readonly why?: string
}

/** A time in which machines were told to come again. */
export interface Spell {
  readonly since: string
  /** Null where it goes on. */
  readonly until: string | null
  /** How often machines were told. */
  readonly times: number
}

/** Which process it is. */
export interface ProcessIdentity {
  /** Random, one each start. */
  readonly id: string
  readonly host: string
  readonly pid: number
  readonly role: 'server' | 'keeper' | 'worker'
  readonly startedAt: string
}

/** What a server says beside: its workers do not. */
export interface ServerClaim {
  readonly version: string
  /** Whether it does now what must be done once. */
  readonly leads: boolean
  /** What must be the same on all servers, by name; null where it is the only one. */
  readonly marks: Readonly<Record<string, string>> | null
}

/** What a process says of itself every few seconds: plain data, since it may go to another process. */
export interface Heartbeat {
  readonly process: ProcessIdentity
  readonly load: ProcessLoad
  readonly server?: ServerClaim
  /** What began or ended since the one before. */
  readonly spells: readonly Spell[]
  /** Nodes whose site it would know. */
  readonly nodes: readonly string[]
  /** The last one. */
  readonly ends?: boolean
}
