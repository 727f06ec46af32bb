import type { Server as HttpsServer } from 'node:https'
import { createServer } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { BootContext } from './boot/context.ts'
import { type TicketContext, type TicketKey, ticketKeyNow, ticketPeriod } from './boot/ticket-key.ts'
import type { Config, ListenAddress } from './config.ts'
import { openStory } from './fleet/open-story.ts'
import { type BootListenerOptions, buildBootListener } from './http/boot-listener.ts'
import { type Listener, listen, listenerOf, urlOf } from './listen.ts'
import type { BootSide, OpenRoots } from './open-roots.ts'
import type { SideName, Sides } from './workers/messages.ts'

/** The boot listeners of this server, in this process or in workers. */
export interface BootListeners {
  /** For certificates and for closing: the main one first. */
  readonly listeners: readonly Listener[]
  /** Those in this process. */
  readonly apps: readonly { readonly name: 'boot' | 'old-boot'; readonly app: FastifyInstance }[]
  /** Listens. Calls `known` with the main port before anybody is answered. */
  listen(known: (port: number) => void): Promise<void>
  /** Where they listen, as this machine reaches them. */
  urls(): { boot: string; oldBoot?: string }
}

/** What they are made of, wherever they run. */
export interface BootListenersOptions {
  readonly config: Config
  readonly context: BootContext
  readonly roots: OpenRoots
  readonly tickets: Tickets
}

/** The key of session tickets, as it is now. */
export interface Tickets {
  readonly key: () => TicketKey
  /** Takes the key of the period that has begun; false where none has. */
  turn(): Promise<boolean>
}

/** Opens the key of session tickets. */
export async function openTickets(context: TicketContext): Promise<Tickets> {
  let current = await ticketKeyNow(context)
  return {
    key: () => current,
    async turn() {
      if (ticketPeriod(context.clock()) === current.period) return false
      current = await ticketKeyNow(context)
      return true
    },
  }
}

/** Boot listeners of this process. */
export function openBootHere(
  { config, context, roots, tickets }: BootListenersOptions,
  options: Omit<BootListenerOptions, 'tls'>,
): BootListeners {
  const build = (side: BootSide): FastifyInstance =>
    buildBootListener(openStory({ ...context, entry: side.entry }), { ...options, tls: tlsOf(side, tickets) })
  const main = build(roots.main)
  const old = roots.old === undefined ? undefined : build(roots.old)
  const { bootListen, oldBootListen } = config
  const mainListener = listenerOf(
    main,
    () => roots.main.tls,
    () => tlsOf(roots.main, tickets),
  )
  return {
    listeners:
      old === undefined
        ? [mainListener]
        : [
            mainListener,
            listenerOf(
              old,
              () => roots.old?.tls,
              () => roots.old && tlsOf(roots.old, tickets),
            ),
          ],
    apps: [
      { name: 'boot', app: main },
      ...(old === undefined ? [] : [{ name: 'old-boot' as const, app: old }]),
    ],
    async listen(known) {
      await listen(main, bootListen)
      // Nobody has been answered yet: the port that was picked is known before the first handshake can end.
      known(Number(new URL(urlOf(main, bootListen)).port || 443))
      if (old !== undefined && oldBootListen !== undefined) await listen(old, oldBootListen)
    },
    urls: () => ({
      boot: urlOf(main, bootListen),
      ...(old === undefined || oldBootListen === undefined ? {} : { oldBoot: urlOf(old, oldBootListen) }),
    }),
  }
}

/** How long a TLS session may be gone on with. */
const sessionSeconds = 300

/** What `https.createServer` and `setSecureContext` take for a boot listener. */
export function tlsOf({ tls, entry }: Pick<BootSide, 'tls' | 'entry'>, tickets: Tickets) {
  return {
    ...tls.options(),
    ticketKeys: Buffer.from(tickets.key().bytes),
    // Node's own is made from the process's arguments, and no session goes on under another: it must be the same everywhere. Under
    // another root it must not: who has proved itself by one root is not known by the other.
    sessionIdContext: `pawl ${entry.root.slice(0, 24)}`,
    // What Node's documentation says is its own; left out, it is OpenSSL's two hours.
    sessionTimeout: sessionSeconds,
  }
}

/** The listeners as they are now, for workers: plain data. */
export function sidesNow({ main, old }: OpenRoots, tickets: Tickets): Sides {
  const setup = (side: BootSide) => {
    const { publicUrl, root, ca } = side.entry
    return { entry: { publicUrl, root, ca }, tls: tlsOf(side, tickets) }
  }
  return { main: setup(main), ...(old === undefined ? {} : { old: setup(old) }) }
}

/** Takes up in a worker's listener what the keeper told. */
export function secureSide(app: FastifyInstance, sides: Sides, name: SideName): void {
  const side = sides[name]
  if (side !== undefined) (app.server as unknown as HttpsServer).setSecureContext(tlsOfMessage(side.tls))
}

/** Bytes that came from another process are a plain Uint8Array. */
export function tlsOfMessage(tls: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return { ...tls, ticketKeys: Buffer.from(tls.ticketKeys as Uint8Array) } // `tlsOf` made it
}

/** The same address with a port: workers that are started again must get the one that was picked. */
export async function withPort(address: ListenAddress): Promise<ListenAddress> {
  if (address.port !== 0) return address
  const server = createServer()
  const port = await new Promise<number>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: address.host, port: 0 }, () => {
      const found = server.address()
      server.close(() => resolve(typeof found === 'object' && found !== null ? found.port : 0))
    })
  })
  return { ...address, port }
}
