import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { BootContext, BootSettings } from './boot/context.ts'
import type { BootEntry } from './boot/entry.ts'
import type { BootMeter } from './boot/meter.ts'
import { openRandomPool } from './boot/random-pool.ts'
import { openRefusalLog } from './boot/refusal-log.ts'
import { settingsSealer } from './boot/settings-sealer.ts'
import { shareTransfers } from './boot/share-transfers.ts'
import { openSpanLog } from './boot/span-log.ts'
import { loggingStages, silentMeter } from './boot/stage-log.ts'
import { openTransfers } from './boot/transfers.ts'
import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import type { JoinMeter } from './domain/join-credential.ts'
import { openExtensionService } from './extensions/service.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import { readCaFile, urlRedirects } from './images/url-redirects.ts'
import { openJoining } from './open-joining.ts'
import type { OpenRoots } from './open-roots.ts'
import { settingsKey } from './pki/settings-key.ts'
import type { Storage } from './storage/database.ts'
import { loadTemplates } from './templates/load.ts'

/** What a context is made from. */
export interface ContextOptions {
  readonly config: Config
  readonly clock: Clock
  readonly log: Logger
  /** Where the templates that come with Pawl are. */
  readonly templatesFolder: string
}

/** The parts that a context is given. */
export interface ContextParts {
  readonly settings: BootSettings
  readonly artifacts: Pick<ArtifactStore, 'redirects'>
  readonly meter?: BootMeter
  readonly joins?: JoinMeter
}

/** What a context knows of the roots: their entries may change while it is used. */
export type ContextRoots = Pick<OpenRoots, 'rootCertificate'> & {
  readonly main: { readonly entry: BootEntry }
  readonly old: { readonly entry: BootEntry } | undefined
}

/** Settings that are being put together. */
export type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** What the steps of a boot use, from the settings and the data folder. */
export function openContext(
  { config, clock, log, templatesFolder }: ContextOptions,
  storage: Storage,
  roots: ContextRoots,
  { settings, artifacts: { redirects }, meter, joins }: ContextParts,
): BootContext {
  const folder = config.dataDir
  // Asked each time: the second is gone once its root was cut over.
  const entries = (): BootEntry[] => [roots.main, roots.old].flatMap((side) => side?.entry ?? [])
  const refusals = openRefusalLog({
    storage,
    clock,
    hasRoom: () => hasRoom(storage, folder, config.refusalDiskReserveMiB),
    onError: (error) => log.error({ err: error }, 'refusals could not be written'),
    ...(meter === undefined ? {} : { onRecord: meter.refused }),
  })
  const spans = openSpanLog({
    storage,
    hasRoom: () => hasRoom(storage, folder, config.refusalDiskReserveMiB),
    onError: (error) => log.warn({ err: error }, 'spans of timelines could not be written'),
  })
  return {
    storage,
    clock,
    randomBytes: openRandomPool(),
    templates: loadTemplates([join(folder, 'ipxe-templates'), templatesFolder]),
    settings,
    sealer: settingsSealer(settingsKey(folder)),
    rootCertificate: roots.rootCertificate,
    entry: roots.main.entry,
    entries,
    refusals,
    extensions: openExtensionService({ maxBootWork: config.maxBootWork }),
    transfers: shareTransfers(openTransfers(), storage, (error) =>
      log.warn({ err: error }, 'downloads that ended elsewhere are cut when they are renewed'),
    ),
    onEffectError: (error) => log.error({ err: error }, 'an effect of a committed step failed'),
    meter: loggingStages(meter ?? silentMeter, log, storage.db),
    spans,
    joining: openJoining({
      config,
      clock,
      meter: joins ?? { called() {}, busy() {} },
      onError: (error) => log.error({ err: error }, 'a credential of a join could not be removed'),
    }),
    ...openDelivery(config, redirects),
  }
}

/** Where agents are sent for artifacts: a URL of the settings is meant before signed ones of the object storage. */
function openDelivery(
  { artifactRedirectUrl, artifactCaFile }: Config,
  redirects: ArtifactStore['redirects'],
): Pick<BootContext, 'redirects' | 'artifactCa'> {
  const artifactCa = artifactCaFile === undefined ? undefined : readCaFile(artifactCaFile, 'artifacts')
  const chosen = artifactRedirectUrl === undefined ? redirects : urlRedirects(artifactRedirectUrl, artifactCa)
  return {
    ...(chosen === undefined ? {} : { redirects: chosen }),
    ...(artifactCa === undefined ? {} : { artifactCa }),
  }
}

/** The settings of the boot story; without a public URL it is filled in once the port is known. */
export function bootSettings(config: Config): Writable<BootSettings> {
  return {
    publicUrl: config.publicUrl ?? '',
    tokenLifetimeSeconds: config.tokenLifetimeSeconds,
    epoxyTokenLifetimeSeconds: config.epoxyTokenLifetimeSeconds,
    reportTokenLifetimeSeconds: config.reportTokenLifetimeSeconds,
    sessionIdleSeconds: config.sessionIdleSeconds,
    sessionMaxSeconds: config.sessionMaxSeconds,
    maxStage1PerHour: config.maxStage1PerHour,
    loopStage1s: config.loopStage1s,
    loopWindowSeconds: config.loopWindowSeconds,
    slowPercent: config.slowPercent,
    stuckPercent: config.stuckPercent,
    stuckSilenceSeconds: config.stuckSilenceSeconds,
    maxReinstallAttempts: config.maxReinstallAttempts,
    maxReinstallFailures: config.maxReinstallFailures,
    reinstallMarkSeconds: config.reinstallMarkSeconds,
    repeatStage1Seconds: config.repeatStage1Seconds,
    alternatingMachinesSeconds: config.alternatingMachinesSeconds,
    enrolmentLifetimeSeconds: config.enrolmentLifetimeSeconds,
    maxPendingMachines: config.maxPendingMachines,
    webhookAllowedNetworks: config.webhookAllowedNetworks,
    extensionAllowedNetworks: config.extensionAllowedNetworks,
    ipxeSyslog: config.ipxeSyslog,
    traces: config.otlpEndpoint !== undefined,
    identity: {
      issuer: config.identityIssuer,
      seconds: config.identitySeconds,
      overlapSeconds: config.identityOverlapSeconds,
      keyDays: config.identityKeyDays,
      keyLeadSeconds: config.identityKeyLeadSeconds,
    },
  }
}

async function hasRoom(storage: Storage, folder: string, reserveMiB: number): Promise<boolean> {
  if (storage.dialect === 'postgres') return true // its disk is not ours to see
  const { bavail, bsize } = await statfs(folder)
  return (bavail * bsize) / 2 ** 20 > reserveMiB
}
