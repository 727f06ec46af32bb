import { randomBytes } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import { type AddressInfo, isIPv6 } from 'node:net'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import manifest from '../package.json' with { type: 'json' }
import type { BootContext, BootSettings } from './boot/context.ts'
import { openRefusalLog } from './boot/refusal-log.ts'
import { settingsSealer } from './boot/settings-sealer.ts'
import { openTransfers } from './boot/transfers.ts'
import { chores, startTimers } from './chores.ts'
import type { Config, ListenAddress } from './config.ts'
import type { Clock } from './domain/clock.ts'
import { PawlError } from './errors.ts'
import type { SignInSettings } from './fleet/sign-in-settings.ts'
import { buildBootListener } from './http/boot-listener.ts'
import { buildOperatorListener } from './http/operator-listener.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import { openArtifactCache } from './images/cache.ts'
import { openArtifacts } from './open-artifacts.ts'
import { openSignIn } from './open-sign-in.ts'
import { openAuthority } from './pki/authority.ts'
import { type CheckpointSigner, openCheckpointSigner } from './pki/checkpoint-key.ts'
import { createClientAuthority, openClientAuthority } from './pki/client-authority.ts'
import { writeFileDurably } from './pki/key-file.ts'
import { settingsKey } from './pki/settings-key.ts'
import { loadTls, type ServerTls } from './pki/tls.ts'
import { keyOfRequest } from './pki/x509.ts'
import { openStorage, type Storage } from './storage/database.ts'
import { loadTemplates } from './templates/load.ts'
import { openWebhookSender, type WebhookSender } from './webhooks/sender.ts'

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
  /** Does now all that happens by itself in time: sessions run out, counted refusals are written, certificates are renewed. */
  maintain(): Promise<void>
  /** Stops accepting, lets what is under way finish within the grace, and closes the database. */
  close(): Promise<void>
}

/** A filesystem of 8 GiB over a link of 20 Mbit/s. */
const uploadTimeoutSeconds = 3600

/** Puts the parts together, by hand, and listens. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const storage = await openStorage(options.config.database)
  try {
    return await serve(options, await assemble(options, storage))
  } catch (error) {
    await storage.close().catch(() => {}) // the first error is the one to tell
    throw error
  }
}

/** The parts that run. */
interface Parts {
  readonly context: BootContext
  readonly signIn: SignInSettings | undefined
  readonly checkpoints: CheckpointSigner
  readonly audit: Config
  readonly settings: Writable<BootSettings>
  readonly artifacts: ArtifactStore
  readonly webhooks: WebhookSender
  readonly listeners: readonly { readonly app: FastifyInstance; readonly tls: ServerTls }[]
  readonly boot: FastifyInstance
  readonly operator: FastifyInstance
}

async function assemble(options: ServerOptions, storage: Storage): Promise<Parts> {
  const { config, clock, log } = options
  const authority = openAuthority(config.dataDir)
  const settings = bootSettings(options)
  const artifacts = await openArtifacts(config, log)
  const context = openContext(options, storage, authority.rootCertificate, { settings, artifacts })
  await artifacts
    .tidy(clock())
    .catch((error: unknown) => log.warn({ err: error }, 'old uploads stay for now'))
  const names = namesOf(options)
  const bootTls = await loadTls(authority, { kind: 'boot', names, now: clock() })
  // An older data folder has no CA for clients yet.
  await createClientAuthority(config.dataDir, clock())
  const clients = openClientAuthority(config.dataDir)
  const clientCa = clients.certificate
  const operatorNames = operatorNamesOf(names, config)
  const operatorTls = await loadTls(authority, {
    kind: 'operator',
    names: operatorNames,
    now: clock(),
    clientCa,
  })
  const signIn = openSignIn(config, clock)
  const { requestTimeoutSeconds, idleTimeoutSeconds, maxConnections, trustedProxies } = config
  const limits = { requestTimeoutSeconds, idleTimeoutSeconds, maxConnections }
  const boot = buildBootListener(context, {
    tls: bootTls.options(),
    log,
    trustedProxies,
    artifacts: openArtifactCache(artifacts, { maxBytes: config.artifactCacheMiB * 2 ** 20 }),
    limits: { ...limits, maxBodyBytes: config.maxBootBodyBytes },
  })
  const checkpoints = openCheckpointSigner(config.dataDir)
  const operator = buildOperatorListener(context, {
    tls: operatorTls.options(),
    log,
    trustedProxies,
    artifacts,
    issueCodeSigning: async ({ publisher, request, now }) =>
      authority.issueCodeSigning({ publisher, key: await keyOfRequest(request), now }),
    issueClientCertificate: clients.issue,
    ...(signIn === undefined ? {} : { signIn }),
    checkpoints,
    certificates: () => [
      { listener: 'boot', notAfter: bootTls.notAfter },
      { listener: 'operator', notAfter: operatorTls.notAfter },
    ],
    limits: { ...limits, maxBodyBytes: config.maxOperatorBodyBytes, uploadTimeoutSeconds },
  })
  const listeners = [
    { app: boot, tls: bootTls },
    { app: operator, tls: operatorTls },
  ]
  const webhooks = openWebhookSender(context, { log })
  return {
    context,
    signIn: signIn?.settings,
    checkpoints,
    audit: config,
    settings,
    artifacts,
    webhooks,
    listeners,
    boot,
    operator,
  }
}

function openContext(
  { config, clock, log, templatesFolder }: ServerOptions,
  storage: Storage,
  rootCertificate: string,
  { settings, artifacts: { redirects } }: { settings: BootSettings; artifacts: ArtifactStore },
): BootContext {
  const folder = config.dataDir
  const refusals = openRefusalLog({
    storage,
    clock,
    hasRoom: () => hasRoom(storage, folder, config.refusalDiskReserveMiB),
    onError: (error) => log.error({ err: error }, 'refusals could not be written'),
  })
  return {
    storage,
    clock,
    randomBytes,
    templates: loadTemplates([join(folder, 'ipxe-templates'), templatesFolder]),
    settings,
    sealer: settingsSealer(settingsKey(folder)),
    rootCertificate: () => rootCertificate,
    refusals,
    transfers: openTransfers(),
    ...(redirects === undefined ? {} : { redirects }),
  }
}

async function serve(options: ServerOptions, parts: Parts): Promise<RunningServer> {
  const { config, log } = options
  const { boot, operator, settings } = parts
  const byItself = chores(parts, log)
  const stopTimers = startTimers(byItself, log)
  const close = (): Promise<void> => closeAll(parts, stopTimers, config.shutdownGraceSeconds)
  try {
    await listen(boot, config.bootListen)
    // Nobody has been answered yet: the port that was picked is known before the first handshake can end.
    if (config.publicUrl === undefined) settings.publicUrl = `https://${options.hostName}:${portOf(boot)}`
    await listen(operator, config.operatorListen)
  } catch (error) {
    await close()
    throw error
  }
  const maintain = async (): Promise<void> => {
    for (const { work } of byItself) await work()
  }
  return { ready: announce(options, settings, boot, operator), maintain, close }
}

/** Tells where it listens: the client commands on this data folder by a file, everyone else by the ready line. */
function announce(
  { config, processId }: ServerOptions,
  settings: BootSettings,
  boot: FastifyInstance,
  operator: FastifyInstance,
): RunningServer['ready'] {
  const urls = { boot: urlOf(boot, config.bootListen), operator: urlOf(operator, config.operatorListen) }
  writeFileDurably(
    join(config.dataDir, 'server.json'),
    `${JSON.stringify({ ...urls, pid: processId, version: manifest.version })}\n`,
    0o600,
  )
  return { event: 'ready', ...urls, ca: join(config.dataDir, 'ca.crt'), publicUrl: settings.publicUrl }
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
    maxReinstallFailures: config.maxReinstallFailures,
    reinstallMarkSeconds: config.reinstallMarkSeconds,
    repeatStage1Seconds: config.repeatStage1Seconds,
    enrolmentLifetimeSeconds: config.enrolmentLifetimeSeconds,
    maxPendingMachines: config.maxPendingMachines,
    webhookAllowedNetworks: config.webhookAllowedNetworks,
  }
}

/** Every name that a client may call this server by. */
function namesOf({ config, hostName }: ServerOptions): string[] {
  const publicName =
    config.publicUrl === undefined ? hostName : new URL(config.publicUrl).hostname.replace(/^\[|\]$/g, '')
  return [...new Set([publicName, ...config.names, hostName, 'localhost', '127.0.0.1', '::1'])]
}

/** Browsers may know the operator listener by a name of its own. */
function operatorNamesOf(names: readonly string[], { operatorUrl }: Config): string[] {
  const own = operatorUrl === undefined ? [] : [new URL(operatorUrl).hostname.replace(/^\[|\]$/g, '')]
  return [...new Set([...names, ...own])]
}

async function hasRoom(storage: Storage, folder: string, reserveMiB: number): Promise<boolean> {
  if (storage.dialect === 'postgres') return true // its disk is not ours to see
  const { bavail, bsize } = await statfs(folder)
  return (bavail * bsize) / 2 ** 20 > reserveMiB
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
  { boot, operator, context, webhooks }: Parts,
  stopTimers: () => void,
  graceSeconds: number,
): Promise<void> {
  stopTimers()
  const cut = setTimeout(() => {
    for (const app of [boot, operator]) app.server.closeAllConnections()
  }, graceSeconds * 1000)
  await Promise.all([boot.close(), operator.close(), webhooks.close()])
  clearTimeout(cut)
  await context.refusals.flush()
  await context.storage.close()
}
