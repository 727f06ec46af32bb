import type { Logger } from 'pino'
import { openBandwidth } from './boot/bandwidth.ts'
import type { Config } from './config.ts'
import type { CacheMeter } from './domain/meters.ts'
import { PawlError } from './errors.ts'
import type { BootListenerOptions } from './http/boot-listener.ts'
import type { Gate } from './http/gate.ts'
import type { ArtifactShelf } from './images/artifacts.ts'
import { type ArtifactCache, openArtifactCache } from './images/cache.ts'
import { giveHeapRoom } from './images/heap-room.ts'
import { type ServedBinaries, serveBinaries } from './ipxe/served.ts'
import { openLimits } from './open-limits.ts'

/** What a process needs to serve machines, beside the story and the certificates. */
export interface Serving {
  readonly cache: ArtifactCache
  readonly cacheLimitBytes: number
  readonly ipxe: ServedBinaries
  /** How much this process takes at a time. */
  readonly gate: Gate
  /** For each boot listener of this process. */
  readonly options: Omit<BootListenerOptions, 'tls'>
}

/** Opens it: once in a process, whether that is the only one or a worker. */
export function openServing(
  config: Config,
  log: Logger,
  artifacts: Pick<ArtifactShelf, 'open'>,
  meter: CacheMeter,
): Serving {
  const ipxe = serveBinaries(config.dataDir, {
    onFault: (fault) => log.error(fault, 'an iPXE binary is not served'),
  })
  if (config.accelRedirectPath !== undefined && config.artifacts?.kind === 's3')
    throw new PawlError('usage', 'accelRedirectPath needs artifacts in a folder, which the nginx can read')
  const cacheLimitBytes = config.artifactCacheMiB * 2 ** 20
  giveHeapRoom()
  const cache = openArtifactCache(artifacts, {
    maxBytes: cacheLimitBytes,
    asked: (answer) => meter('memory', answer),
  })
  const { limits: http, gate } = openLimits(config, log)
  const options = {
    log,
    gate,
    trustedProxies: config.trustedProxies,
    proxyProtocolFrom: config.proxyProtocolFrom,
    clientCertificates: config.bootClientCertificates,
    artifacts: cache,
    bandwidth: openBandwidth({
      // Each process has its part, used or not: none knows what the others send.
      total: rate(config.downloadBytesPerSecond / Math.max(1, config.workers)),
      node: rate(config.nodeDownloadBytesPerSecond),
    }),
    accelRedirectPath: config.accelRedirectPath,
    ipxe,
    limits: {
      requestTimeoutSeconds: config.requestTimeoutSeconds,
      idleTimeoutSeconds: config.idleTimeoutSeconds,
      maxConnections: config.maxConnections,
      maxBodyBytes: config.maxBootBodyBytes,
      http,
    },
  }
  return { cache, cacheLimitBytes, ipxe, gate, options }
}

/** A limit of 0 is none. */
function rate(bytesPerSecond: number): number | undefined {
  return bytesPerSecond === 0 ? undefined : bytesPerSecond
}
