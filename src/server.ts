import { randomBytes } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import type { Server as HttpsServer } from 'node:https'
import { type AddressInfo, isIPv6 } from 'node:net'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { BootContext, BootSettings } from './boot/context.ts'
import { expireSessions } from './boot/expire-sessions.ts'
import { openRefusalLog } from './boot/refusal-log.ts'
import { settingsSealer } from './boot/settings-sealer.ts'
import { openTransfers } from './boot/transfers.ts'
import type { Config, ListenAddress } from './config.ts'
import type { Clock } from './domain/clock.ts'
import { PawlError } from './errors.ts'
import { buildBootListener } from './http/boot-listener.ts'
import { buildOperatorListener } from './http/operator-listener.ts'
import { openArtifactStore } from './images/artifacts.ts'
import { openArtifactCache } from './images/cache.ts'
import { openAuthority } from './pki/authority.ts'
import { writeFileDurably } from './pki/key-file.ts'
import { settingsKey } from './pki/settings-key.ts'
import { loadTls, type ServerTls } from './pki/tls.ts'
import { openStorage, type Storage } from './storage/database.ts'
import { loadTemplates } from './templates/load.ts'

/** What the server is started with, beside its settings. */
export interface ServerOptions {
  readonly config: Config
  readonly clock: Clock
  readonly log: Logger
  readonly hostName: string
  readonly processId: number
  /** Where the templates that come with Pawl are. */
  readonly templatesFolder: string
}

/** A server that serves. */
export interface RunningServer {
  /** The ready line's content (CONTRACT). */
  readonly ready: { event: 'ready'; boot: string; operator: string; ca: string; publicUrl: string }
  /** Stops accepting, lets what is under way finish within the grace, and closes the database. */
  close(): Promise<void>
}

/** A filesystem of 8 GiB over a link of 20 Mbit/s. */
const uploadTimeoutSeconds = 3600
const expireEveryMilliseconds = 30_000
const flushEveryMilliseconds = 10_000
const renewEveryMilliseconds = 12 * 3600_000

/** Puts the parts together, by hand, and listens. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, clock, log } = options
  const folder = config.dataDir
  const authority = openAuthority(folder)
  const storage = await openStorage(config.database)
  try {
    const settings = bootSettings(options)
    const refusals = openRefusalLog({
      storage,
      clock,
      hasRoom: () => hasRoom(storage, folder, config.refusalDiskReserveMiB),
      onError: (error) => log.error({ err: error }, 'refusals could not be written'),
    })
    const context: BootContext = {
      storage,
      clock,
      randomBytes,
      templates: loadTemplates([join(folder, 'ipxe-templates'), options.templatesFolder]),
      settings,
      sealer: settingsSealer(settingsKey(folder)),
      rootCertificate: () => authority.rootCertificate,
      refusals,
      transfers: openTransfers(),
    }
    const artifacts = await openArtifactStore(join(folder, 'artifacts'))
    const tls = {
      boot: await loadTls(authority, { kind: 'boot', names: namesOf(options), now: clock() }),
      operator: await loadTls(authority, { kind: 'operator', names: namesOf(options), now: clock() }),
    }
    const boot = buildBootListener(context, {
      tls: tls.boot.options(),
      log,
      trustedProxies: config.trustedProxies,
      artifacts: openArtifactCache(artifacts, { maxBytes: config.artifactCacheMiB * 2 ** 20 }),
      limits: {
        maxBodyBytes: config.maxBootBodyBytes,
        requestTimeoutSeconds: config.requestTimeoutSeconds,
        idleTimeoutSeconds: config.idleTimeoutSeconds,
        maxConnections: config.maxConnections,
      },
    })
    const operator = buildOperatorListener(context, {
      tls: tls.operator.options(),
      log,
      artifacts,
      trustedProxies: config.trustedProxies,
      limits: {
        maxBodyBytes: config.maxOperatorBodyBytes,
        requestTimeoutSeconds: config.requestTimeoutSeconds,
        uploadTimeoutSeconds,
        idleTimeoutSeconds: config.idleTimeoutSeconds,
        maxConnections: config.maxConnections,
      },
    })
    const stopTimers = startTimers(context, log, [
      [tls.boot, boot],
      [tls.operator, operator],
    ])
    const close = (): Promise<void> =>
      closeAll([boot, operator], storage, context, stopTimers, config.shutdownGraceSeconds)
    try {
      await listen(boot, config.bootListen)
      // Nobody has been answered yet: the port that was picked is known before the first handshake can end.
      if (config.publicUrl === undefined) settings.publicUrl = `https://${options.hostName}:${portOf(boot)}`
      await listen(operator, config.operatorListen)
    } catch (error) {
      await close()
      throw error
    }
    return await announce(options, settings, boot, operator, close)
  } catch (error) {
    await storage.close().catch(() => {}) // the first error is the one to tell
    throw error
  }
}

async function announce(
  { config, processId }: ServerOptions,
  settings: BootSettings,
  boot: FastifyInstance,
  operator: FastifyInstance,
  close: () => Promise<void>,
): Promise<RunningServer> {
  const urls = { boot: urlOf(boot, config.bootListen), operator: urlOf(operator, config.operatorListen) }
  // Where the client commands find the server that runs on this data folder.
  writeFileDurably(
    join(config.dataDir, 'server.json'),
    `${JSON.stringify({ ...urls, pid: processId })}\n`,
    0o600,
  )
  return {
    ready: { event: 'ready', ...urls, ca: join(config.dataDir, 'ca.crt'), publicUrl: settings.publicUrl },
    close,
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

function bootSettings({ config }: ServerOptions): Writable<BootSettings> {
  return {
    publicUrl: config.publicUrl ?? '',
    tokenLifetimeSeconds: config.tokenLifetimeSeconds,
    epoxyTokenLifetimeSeconds: config.epoxyTokenLifetimeSeconds,
    reportTokenLifetimeSeconds: config.reportTokenLifetimeSeconds,
    sessionIdleSeconds: config.sessionIdleSeconds,
    sessionMaxSeconds: config.sessionMaxSeconds,
    maxStage1PerHour: config.maxStage1PerHour,
    maxReinstallAttempts: config.maxReinstallAttempts,
    repeatStage1Seconds: config.repeatStage1Seconds,
    enrolmentLifetimeSeconds: config.enrolmentLifetimeSeconds,
    maxPendingMachines: config.maxPendingMachines,
  }
}

/** Every name that a client may call this server by. */
function namesOf({ config, hostName }: ServerOptions): string[] {
  const publicName =
    config.publicUrl === undefined ? hostName : new URL(config.publicUrl).hostname.replace(/^\[|\]$/g, '')
  return [...new Set([publicName, ...config.names, hostName, 'localhost', '127.0.0.1', '::1'])]
}

async function hasRoom(storage: Storage, folder: string, reserveMiB: number): Promise<boolean> {
  if (storage.dialect === 'postgres') return true // its disk is not ours to see
  const { bavail, bsize } = await statfs(folder)
  return (bavail * bsize) / 2 ** 20 > reserveMiB
}

/** What happens by itself: sessions run out, counted refusals are written, certificates are renewed. */
function startTimers(
  context: BootContext,
  log: Logger,
  listeners: readonly [ServerTls, FastifyInstance][],
): () => void {
  const every = (milliseconds: number, what: string, work: () => Promise<unknown>): NodeJS.Timeout =>
    setInterval(() => {
      work().catch((error: unknown) => log.error({ err: error }, `${what} failed`))
    }, milliseconds).unref()
  const timers = [
    every(expireEveryMilliseconds, 'expiring sessions', () => expireSessions(context)),
    every(flushEveryMilliseconds, 'writing refusals', () => context.refusals.flush()),
    every(renewEveryMilliseconds, 'renewing certificates', async () => {
      for (const [tls, app] of listeners) await renew(tls, app, context.clock(), log)
    }),
  ]
  return () => timers.forEach(clearInterval)
}

async function renew(tls: ServerTls, app: FastifyInstance, now: Date, log: Logger): Promise<void> {
  if (!(await tls.renewIfDue(now))) return
  ;(app.server as unknown as HttpsServer).setSecureContext(tls.options()) // both listeners are https
  log.info({ notAfter: tls.notAfter }, 'certificate renewed')
}

async function listen(app: FastifyInstance, address: ListenAddress): Promise<void> {
  try {
    await app.listen({ host: address.host, port: address.port })
  } catch (cause) {
    const code = (cause as { code?: string }).code
    const hint =
      code === 'EADDRINUSE'
        ? 'another process has this port: is a Pawl running already?'
        : 'check the address'
    throw new PawlError(
      'usage',
      `cannot listen on ${address.host} port ${address.port} (${code ?? 'unknown'})`,
      { hint, cause },
    )
  }
}

function portOf(app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port // it listens on a TCP port
}

function urlOf(app: FastifyInstance, { host }: ListenAddress): string {
  const name = host === '::' || host === '0.0.0.0' ? 'localhost' : isIPv6(host) ? `[${host}]` : host
  return `https://${name}:${portOf(app)}`
}

async function closeAll(
  apps: readonly FastifyInstance[],
  storage: Storage,
  context: BootContext,
  stopTimers: () => void,
  graceSeconds: number,
): Promise<void> {
  stopTimers()
  const cut = setTimeout(() => {
    for (const app of apps) app.server.closeAllConnections()
  }, graceSeconds * 1000)
  await Promise.all(apps.map((app) => app.close()))
  clearTimeout(cut)
  await context.refusals.flush()
  await storage.close()
}
