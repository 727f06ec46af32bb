import { join, resolve } from 'node:path'
import type { FastifyInstance } from 'fastify'
import manifest from '../package.json' with { type: 'json' }
import type { BootContext, BootSettings } from './boot/context.ts'
import { chores, type Listeners, startTimers } from './chores.ts'
import type { Config, ListenAddress } from './config.ts'
import { openStory } from './fleet/open-story.ts'
import type { SignInSettings } from './fleet/sign-in-settings.ts'
import { buildBootListener } from './http/boot-listener.ts'
import { buildOperatorListener } from './http/operator-listener.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import { openArtifactCache } from './images/cache.ts'
import { type ServedBinaries, serveBinaries } from './ipxe/served.ts'
import { listen, portOf, urlOf } from './listen.ts'
import { openArtifacts } from './open-artifacts.ts'
import { bootSettings, type ContextOptions, openContext, type Writable } from './open-context.ts'
import { type BootSide, openRoots } from './open-roots.ts'
import { openSignIn } from './open-sign-in.ts'
import { type OpenTftp, openTftp } from './open-tftp.ts'
import { type CheckpointSigner, openCheckpointSigner } from './pki/checkpoint-key.ts'
import { createClientAuthorities, openClientAuthority } from './pki/client-authority.ts'
import { writeFileDurably } from './pki/key-file.ts'
import { keyOfRequest } from './pki/x509.ts'
import { openStorage, type Storage } from './storage/database.ts'
import { openWebhookSender, type WebhookSender } from './webhooks/sender.ts'

/** What the server is started with, beside its settings. */
export interface ServerOptions extends ContextOptions {
  readonly hostName: string
  readonly processId: number
}

/** A server that serves. */
export interface RunningServer {
  /** The ready line's content (CONTRACT). */
  readonly ready: {
    event: 'ready'
    boot: string
    /** While a root is rotated: where the old one is served. */
    oldBoot?: string
    operator: string
    /** `HOST:PORT`, where TFTP is served. */
    tftp?: string
    ca: string
    publicUrl: string
  }
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

/** A boot listener, and where it listens. */
interface BootSideListener {
  readonly app: FastifyInstance
  readonly listen: ListenAddress
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
  readonly listeners: Listeners
  readonly ipxe: ServedBinaries
  readonly followCutOver: () => Promise<boolean>
  readonly boot: BootSideListener
  readonly oldBoot: BootSideListener | undefined
  readonly operator: FastifyInstance
}

async function assemble(options: ServerOptions, storage: Storage): Promise<Parts> {
  const { config, clock, log } = options
  // An older data folder has no CA for clients yet.
  await createClientAuthorities(config.dataDir, clock())
  const clients = openClientAuthority(config.dataDir, 'operator')
  const nodes = openClientAuthority(config.dataDir, 'node')
  const settings = bootSettings(config)
  const clientCas = { operator: clients.certificate, node: nodes.certificate }
  const roots = await openRoots({ ...options, settings, clientCas })
  const artifacts = await openArtifacts(config, log)
  const context = openContext(options, storage, roots, { settings, artifacts })
  await artifacts
    .tidy(clock())
    .catch((error: unknown) => log.warn({ err: error }, 'old uploads stay for now'))
  const signIn = openSignIn(config, clock)
  const { requestTimeoutSeconds, idleTimeoutSeconds, maxConnections, trustedProxies } = config
  const limits = { requestTimeoutSeconds, idleTimeoutSeconds, maxConnections }
  const ipxe = serveBinaries(config.dataDir, {
    onFault: (fault) => log.error(fault, 'an iPXE binary is not served'),
  })
  const bootParts = {
    log,
    trustedProxies,
    proxyProtocolFrom: config.proxyProtocolFrom,
    clientCertificates: config.bootClientCertificates,
    artifacts: openArtifactCache(artifacts, { maxBytes: config.artifactCacheMiB * 2 ** 20 }),
    ipxe,
    limits: { ...limits, maxBodyBytes: config.maxBootBodyBytes },
  }
  const bootOf = ({ entry, tls, listen }: BootSide): BootSideListener => ({
    app: buildBootListener(openStory({ ...context, entry }), { ...bootParts, tls: tls.options() }),
    listen,
  })
  const boot = bootOf(roots.main)
  const oldBoot = roots.old === undefined ? undefined : bootOf(roots.old)
  const checkpoints = openCheckpointSigner(config.dataDir)
  const operator = buildOperatorListener(context, {
    tls: roots.operatorTls.options(),
    log,
    trustedProxies,
    artifacts,
    issueCodeSigning: async ({ publisher, request, now }) =>
      roots.signing().issueCodeSigning({ publisher, key: await keyOfRequest(request), now }),
    issueClientCertificate: clients.issue,
    issueNodeCertificate: nodes.issue,
    ...(signIn === undefined ? {} : { signIn }),
    checkpoints,
    nextRoot: roots.next,
    certificates: () => [
      { listener: 'boot', notAfter: roots.main.tls.notAfter },
      { listener: 'operator', notAfter: roots.operatorTls.notAfter },
    ],
    limits: { ...limits, maxBodyBytes: config.maxOperatorBodyBytes, uploadTimeoutSeconds },
  })
  const listeners = [
    { app: boot.app, tls: () => roots.main.tls },
    { app: operator, tls: () => roots.operatorTls },
    ...(oldBoot === undefined ? [] : [{ app: oldBoot.app, tls: () => roots.old?.tls }]),
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
    ipxe,
    followCutOver: roots.follow,
    boot,
    oldBoot,
    operator,
  }
}

async function serve(options: ServerOptions, parts: Parts): Promise<RunningServer> {
  const { config, log } = options
  const { boot, oldBoot, operator, settings } = parts
  let tftp: OpenTftp | undefined
  const byItself = [
    ...chores(parts, log),
    { what: 'reading iPXE for TFTP', everyMilliseconds: 10_000, work: async () => tftp?.refresh() },
  ]
  const stopTimers = startTimers(byItself, log)
  const close = (): Promise<void> => closeAll(parts, stopTimers, config.shutdownGraceSeconds, tftp)
  try {
    await listen(boot.app, boot.listen)
    // Nobody has been answered yet: the port that was picked is known before the first handshake can end.
    if (config.publicUrl === undefined) settings.publicUrl = `https://${options.hostName}:${portOf(boot.app)}`
    if (oldBoot !== undefined) await listen(oldBoot.app, oldBoot.listen)
    await listen(operator, config.operatorListen)
    tftp = await openTftp({ ...options, ...parts })
  } catch (error) {
    await close()
    throw error
  }
  const maintain = async (): Promise<void> => {
    for (const { work } of byItself) await work()
  }
  return { ready: announce(options, settings, { ...parts, tftp }), maintain, close }
}

/** Tells where it listens: the client commands on this data folder by a file, everyone else by the ready line. */
function announce(
  { config, processId }: ServerOptions,
  settings: BootSettings,
  { boot, oldBoot, operator, tftp }: Parts & { readonly tftp: OpenTftp | undefined },
): RunningServer['ready'] {
  const urls = {
    boot: urlOf(boot.app, boot.listen),
    ...(oldBoot === undefined ? {} : { oldBoot: urlOf(oldBoot.app, oldBoot.listen) }),
    operator: urlOf(operator, config.operatorListen),
    ...(tftp === undefined ? {} : { tftp: tftp.address }),
  }
  const { operatorCaFile } = config
  const own = operatorCaFile === undefined ? {} : { operatorCa: resolve(operatorCaFile) }
  const ca = operatorCaFile ?? join(config.dataDir, 'ca.crt')
  writeFileDurably(
    join(config.dataDir, 'server.json'),
    `${JSON.stringify({ ...urls, ...own, pid: processId, version: manifest.version })}\n`,
    0o600,
  )
  return { event: 'ready', ...urls, ca, publicUrl: settings.publicUrl }
}

async function closeAll(
  { listeners, context, webhooks }: Parts,
  stopTimers: () => void,
  graceSeconds: number,
  tftp: OpenTftp | undefined,
): Promise<void> {
  stopTimers()
  const cut = setTimeout(() => {
    for (const { app } of listeners) app.server.closeAllConnections()
  }, graceSeconds * 1000)
  await Promise.all([...listeners.map(({ app }) => app.close()), webhooks.close(), tftp?.close()])
  clearTimeout(cut)
  await context.refusals.flush()
  await context.storage.close()
}
