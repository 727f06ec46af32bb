/**
 * `pawl storm` boots nodes that are not there, so that an operator learns what a server can carry. Its parts:
 *
 *   marks, images, fleet, cleanup   what a storm makes on the server by the operator API, and takes away again
 *   crews ──IPC──▶ crew-main        client processes, each with a share of the nodes
 *     node ──▶ firmware ──▶ agent   one node: iPXE (TLS 1.2), then the minimal and the full system (TLS 1.3)
 *     wire, connections             HTTP/1.1 on node:tls, which costs least of all clients that were measured
 *   tally, load, truth              what happened: as the clients saw it, what it cost, and what the server says of it
 */

/** What part of the nodes resumes TLS sessions where iPXE would. */
export type Resume = 'on' | 'off' | 'both'

/** How simulated nodes behave. */
export interface Behaviour {
  readonly resume: Resume
  /** `pool`: iPXE's own way, one connection that stays open for 10 s. `each`: a new one for every request. */
  readonly connections: 'pool' | 'each'
  /** Which certificate the firmware's suites ask for. */
  readonly certificate: 'rsa' | 'ecdsa'
  /** OpenSSL's names of the suites that the firmware offers; undefined: those that iPXE offers for the certificate. */
  readonly cipher: string | undefined
  /** Each of the firmware's downloads is asked for in so many ranges. */
  readonly pieces: number
  /** How long a kernel takes to start, and a system after it, in seconds, more or less by half. */
  readonly thinkSeconds: number
  /** The clients' own waits are divided by this; what the server asks for is not. */
  readonly hurry: number
  readonly verify: boolean
  /** In percent of the redemptions: the connection is cut before the answer is read. */
  readonly loseAnswers: number
  /** In percent of the nodes: the power goes once, at a point of the boot taken at random. */
  readonly powerCycles: number
  /** In percent of the downloads of agents: the connection is cut half way, and the rest is asked for. */
  readonly cutDownloads: number
}

/** Where the boot listener is. */
export interface Target {
  /** The host to connect to. */
  readonly host: string
  readonly port: number
  /** What the certificate must be for; also the Host header's. */
  readonly name: string
  /** The roots to trust, PEM. */
  readonly ca: string
}

/** One node, as its crew needs it. */
export interface SimulatedNode {
  readonly name: string
  /** Which it is of all, from 0 on. */
  readonly index: number
  /** Seconds after the storm begins. */
  readonly arrivesAt: number
  /** The local address it speaks from; undefined: the machine's own. */
  readonly address: string | undefined
  readonly secret: string | undefined
}

/** The SHA-256 of each artifact of the storm's images, hex. */
export interface Digests {
  readonly stage2: { readonly kernel: string; readonly initramfs: string }
  readonly stage3: { readonly kernel: string; readonly initramfs: string; readonly filesystem: string }
}

/** What one client process has to do. */
export interface CrewPlan {
  readonly target: Target
  readonly digests: Digests
  readonly behaviour: Behaviour
  readonly nodes: readonly SimulatedNode[]
}

/** The requests of a boot, in its order; `ipxe-…` are the firmware's. Handshakes and whole boots are measured beside them. */
export const stepNames = [
  'stage1',
  'ipxe-head',
  'ipxe-kernel',
  'ipxe-initramfs',
  'handover',
  'stage2',
  'kernel',
  'initramfs',
  'filesystem',
  'stage3',
  'join',
  'report',
] as const

/** One request of a boot. */
export type Step = (typeof stepNames)[number]
/** What is timed: requests whole, handshakes, waits for this client's own room, and boots from power-on to the report. */
export type Timed = Step | 'held-back' | 'handshake' | 'handshake-resumed' | 'boot'

/** The redemptions of a session that were answered: what a server may never forget, and never do twice. */
export interface Acknowledged {
  readonly session: string
  readonly steps: readonly Step[]
}

/** How one node's boot ended, as the node saw it. */
export interface NodeResult {
  readonly name: string
  readonly ready: boolean
  /** The session that was reported successful. */
  readonly session: string | undefined
  /** Every session it had. */
  readonly sessions: readonly Acknowledged[]
  readonly seconds: number
  /** Why it gave up, or where it was when the storm ended. */
  readonly cause: string | undefined
}

/** What happened since the last news. */
export interface News {
  /** Milliseconds. */
  readonly times: Readonly<Partial<Record<Timed, readonly number[]>>>
  readonly failures: Readonly<Record<string, number>>
  readonly bytes: number
  readonly retries: number
  /** Answers of 503, and the seconds that they asked to wait, together. */
  readonly busy: number
  readonly busySeconds: number
  readonly powerCycles: number
  readonly begun: number
  readonly results: readonly NodeResult[]
  /** Of the process: CPU seconds, and the part of the time since the last news that its event loop was busy, 0 to 1. */
  readonly cpuSeconds: number
  readonly busyLoop: number
  /** The longest time, in milliseconds, that something ready had to wait for the loop. */
  readonly lagMilliseconds: number
}

/** What a client process is told. */
export type ToCrew = { readonly kind: 'go'; readonly plan: CrewPlan } | { readonly kind: 'stop' }
/** What it says. */
export type FromCrew =
  | { readonly kind: 'news'; readonly news: News }
  | { readonly kind: 'done'; readonly news: News }
