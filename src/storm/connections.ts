import {
  type ConnectionOptions,
  connect,
  createSecureContext,
  type DetailedPeerCertificate,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import type { HandshakeRoom } from './handshake-room.ts'
import type { Behaviour, Target } from './plan.ts'
import { faultOf, WireError } from './wire.ts'

/** iPXE keeps an idle connection for so long (net/tcp/httpconn.c, HTTP_CONN_EXPIRY). */
const poolMilliseconds = 10_000
/** Until a connection stands, handshake included: iPXE's scripts say `--timeout 60000`, our agents `connect-timeout = 15`. */
const connectMilliseconds = { firmware: 60_000, agent: 15_000 }

/** What iPXE of 2022 and later offers for each kind of certificate, of what OpenSSL 3 has; AES-128-GCM is what Pawl chooses of them. */
const firmwareSuites = {
  rsa: 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:AES128-GCM-SHA256:AES128-SHA256:AES128-SHA',
  ecdsa: 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384',
} as const

/** The TLS settings of all nodes of a process: made once, because reading the roots costs more than a handshake. */
export interface Personas {
  readonly firmware: SecureContext
  readonly agent: SecureContext
}

/** Makes them. Throws where OpenSSL knows none of the suites. */
export function openPersonas({ ca }: Target, { certificate, cipher }: Behaviour): Personas {
  return {
    firmware: createSecureContext({
      ca,
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
      // Old suites that iPXE has are below OpenSSL's usual level.
      ciphers: `${cipher ?? firmwareSuites[certificate]}:@SECLEVEL=0`,
      ecdhCurve: 'X25519:P-256',
    }),
    agent: createSecureContext({ ca, minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' }),
  }
}

/** A handshake that succeeded. */
export interface Handshake {
  readonly milliseconds: number
  readonly resumed: boolean
}

/** How one node reaches the boot listener. */
export interface Route {
  readonly target: Target
  readonly personas: Personas
  readonly address: string | undefined
  /** The node remembers TLS sessions. */
  readonly resumes: boolean
  readonly onHandshake: (handshake: Handshake) => void
  readonly room: HandshakeRoom
}

/** A node's connections. They end with `close`, or when the node's power goes. */
export class Connections {
  readonly #route: Route
  readonly #open = new Set<TLSSocket>()
  #idle: { readonly socket: TLSSocket; readonly timer: NodeJS.Timeout } | undefined
  #session: Buffer | undefined
  #held = 0
  #off = false

  constructor(route: Route) {
    this.#route = route
  }

  /** How long this node has waited, in all, for this client to have room for its handshakes: no time of the server's. */
  get heldMilliseconds(): number {
    return this.#held
  }

  /** The firmware's connection of before, where it is open still, or else a new one. */
  async firmware(): Promise<TLSSocket> {
    const idle = this.#takeIdle()
    if (idle !== undefined) return idle
    const { personas, resumes } = this.#route
    const session = resumes && this.#session !== undefined ? { session: this.#session } : {}
    const options = { secureContext: personas.firmware, ...session }
    const socket = await this.#connect(options, connectMilliseconds.firmware)
    if (resumes) this.#session = socket.getSession() ?? this.#session
    return socket
  }

  /** A connection of its own, as each run of curl makes one. */
  agent(): Promise<TLSSocket> {
    return this.#connect({ secureContext: this.#route.personas.agent }, connectMilliseconds.agent)
  }

  /** Keeps a connection for the firmware's next request. */
  keep(socket: TLSSocket): void {
    this.#takeIdle()?.end()
    if (socket.destroyed) return
    const timer = setTimeout(() => {
      this.#idle = undefined
      socket.end()
    }, poolMilliseconds)
    timer.unref()
    this.#idle = { socket, timer }
  }

  /** Ends one that is not needed any more, as a client does that is content. */
  end(socket: TLSSocket): void {
    socket.end()
  }

  /** Cuts all of them: no word is said. */
  cut(): void {
    this.#off = true
    this.#takeIdle()
    for (const socket of this.#open) socket.destroy()
  }

  /** Ends the firmware's idle connection: the kernel starts. */
  leaveFirmware(): void {
    this.#takeIdle()?.end()
  }

  #takeIdle(): TLSSocket | undefined {
    const idle = this.#idle
    this.#idle = undefined
    if (idle === undefined) return undefined
    clearTimeout(idle.timer)
    return idle.socket.destroyed || idle.socket.readableEnded ? undefined : idle.socket
  }

  /** The time that a connection may take begins when this client has room for its handshake. */
  async #connect(options: ConnectionOptions, timeoutMilliseconds: number): Promise<TLSSocket> {
    const begun = performance.now()
    const leave = await this.#route.room.enter()
    this.#held += performance.now() - begun
    try {
      if (this.#off) throw new WireError('the power is gone')
      return await this.#handshake(options, timeoutMilliseconds)
    } finally {
      leave()
    }
  }

  #handshake(options: ConnectionOptions, timeoutMilliseconds: number): Promise<TLSSocket> {
    const { target, address, onHandshake } = this.#route
    const begun = performance.now()
    const socket: TLSSocket = connect({
      ...options,
      host: target.host,
      port: target.port,
      ...(address === undefined ? {} : { localAddress: address }),
      ...(isName(target.name) ? { servername: target.name } : {}),
      checkServerIdentity: () => identityFault(socket, target.name),
    })
    // Node reads the whole chain into objects for each handshake, a quarter of all that this client does: the native check is enough.
    socket.getPeerCertificate = () => ({}) as DetailedPeerCertificate
    socket.setNoDelay(true)
    this.#open.add(socket)
    socket.once('close', () => this.#open.delete(socket))
    return new Promise((resolve, reject) => {
      const fail = (kind: string): void => {
        clearTimeout(timer)
        socket.off('secureConnect', succeed)
        socket.destroy()
        reject(new WireError(kind))
      }
      const onError = (error: NodeJS.ErrnoException): void => fail(faultOf(error))
      const onClose = (): void => fail('connection closed in the handshake')
      const succeed = (): void => {
        socket.off('error', onError)
        socket.off('close', onClose)
        clearTimeout(timer)
        // Nobody listens between two requests: a reset then is found by the next.
        socket.on('error', ignore)
        onHandshake({ milliseconds: performance.now() - begun, resumed: socket.isSessionReused() })
        resolve(socket)
      }
      socket.on('error', onError)
      socket.on('close', onClose)
      // Not the socket's own: a server that is busy with others sends a byte now and then.
      const timer = setTimeout(() => fail('connection timed out'), timeoutMilliseconds)
      socket.once('secureConnect', succeed)
    })
  }
}

/** Why the server is not the one that was meant; undefined where it is. Its chain has been checked by then. */
function identityFault(socket: TLSSocket, name: string): Error | undefined {
  const certificate = socket.getPeerX509Certificate()
  const fits = isName(name) ? certificate?.checkHost(name) : certificate?.checkIP(name)
  return fits === undefined ? new WireError('the certificate is for another name') : undefined
}

function ignore(): void {}

/** A server name is a name: TLS has none for addresses (RFC 6066 §3). */
function isName(host: string): boolean {
  return !/^[\d.]+$|:/.test(host)
}
