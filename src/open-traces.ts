import type { Logger } from 'pino'
import manifest from '../package.json' with { type: 'json' }
import type { BootContext } from './boot/context.ts'
import type { Config } from './config.ts'
import { readCaFile } from './images/url-redirects.ts'
import { readSecretFile } from './pki/key-file.ts'
import { openTraceExporter, type TraceExporter } from './traces/exporter.ts'
import { parseHeaders } from './traces/headers.ts'
import { sendTraces, type TraceTarget } from './traces/send.ts'

/** The settings of traces. */
export type TraceConfig = Pick<
  Config,
  'otlpEndpoint' | 'otlpHeadersFile' | 'otlpCaFile' | 'otlpTimeoutSeconds' | 'otlpResourceAttributes'
>

/** Who exports. */
export interface TracesOptions {
  readonly config: TraceConfig
  readonly hostName: string
  readonly log: Pick<Logger, 'info' | 'warn'>
  /** For tests: how many boots may wait. */
  readonly most?: number
}

/**
 * What exports traces, from the settings; undefined where they name no collector, and then nothing of OpenTelemetry is loaded. Throws
 * `usage` or `key-unreadable` for files that cannot be used.
 */
export async function openTraces(
  context: BootContext,
  { config, hostName, log, most }: TracesOptions,
): Promise<TraceExporter | undefined> {
  if (traceTarget(config) === undefined) return undefined
  const { openEncoder, rejectedIn } = await import('./traces/otlp.ts')
  const { version } = manifest
  const own = { 'service.name': 'pawl', 'service.version': version, 'host.name': hostName }
  const named = config.otlpResourceAttributes.map(({ name, value }) => [name, value] as const)
  // Files are read for each request: a key that was changed, or a CA, counts without a restart.
  const target = (): TraceTarget => traceTarget(config) as TraceTarget // the endpoint is set: see above
  return openTraceExporter(context, {
    log,
    encode: openEncoder({ version, resource: { ...Object.fromEntries(named), ...own } }),
    rejectedIn,
    send: (body, signal) => sendTraces(target, body, { now: context.clock(), signal }),
    ...(most === undefined ? {} : { most }),
  })
}

/** Where traces are sent, with what the files say now; undefined where the settings name no collector. */
export function traceTarget(config: TraceConfig): TraceTarget | undefined {
  const { otlpEndpoint, otlpHeadersFile, otlpCaFile, otlpTimeoutSeconds } = config
  if (otlpEndpoint === undefined) return undefined
  const headers =
    otlpHeadersFile === undefined
      ? {}
      : parseHeaders(
          readSecretFile(otlpHeadersFile, 'make it with the headers that the collector wants, mode 0600'),
          otlpHeadersFile,
        )
  return {
    url: new URL(otlpEndpoint),
    headers,
    ca: otlpCaFile === undefined ? undefined : readCaFile(otlpCaFile, 'the collector of traces'),
    timeoutMilliseconds: otlpTimeoutSeconds * 1000,
  }
}
