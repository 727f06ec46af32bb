import { named, type Setting } from './config-setting.ts'
import { parseFile, ValueFault, wholeNumber } from './config-values.ts'

/** Traces of boots (docs/traces.md). */
export const traceSettings = {
  otlpEndpoint: {
    ...named('otlp-endpoint', 'URL', null),
    meaning:
      'The collector that traces of boots are sent to by OTLP/HTTP, like `https://collector.example:4318`; `/v1/traces` is added. Without it none are made. `OTEL_…` variables are not read.',
    parse: parseOtlpEndpoint,
  },
  otlpHeadersFile: {
    ...named('otlp-headers-file', 'file', null),
    meaning:
      'Headers for the collector, one `Name: value` a line, mode 0600: what it knows us by. Read again before each request.',
    parse: parseFile,
  },
  otlpCaFile: {
    ...named('otlp-ca-file', 'file', null),
    meaning: 'The CA of the collector’s certificate, PEM. Without it: the system’s CAs.',
    parse: parseFile,
  },
  otlpTimeoutSeconds: {
    ...named('otlp-timeout-seconds', 'seconds', '10'),
    meaning: 'How long the collector may take to answer a request.',
    parse: wholeNumber(1, 120),
  },
  otlpResourceAttributes: {
    ...named('otlp-resource-attributes', 'word', null),
    meaning:
      '`NAME=VALUE`, told of this server with every trace, like `site=lga`. May be repeated, 32 times at most.',
    parse: parseResourceAttribute,
    many: true,
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>

/** An attribute of the resource that traces come from. */
export interface ResourceAttribute {
  readonly name: string
  readonly value: string
}

const tracesPath = '/v1/traces'

/** Reads the collector's address; returns the URL that is posted to. Without a user or query, since a log may show it. */
function parseOtlpEndpoint(text: string): string {
  const url = /^https?:\/\/[^\s\\?#@]+$/.test(text) && URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || url.port === '0' || text.length > 2048)
    throw new ValueFault('https://HOST[:PORT][/PATH] or http://…, without user or query')
  const path = url.pathname.replace(/\/+$/, '')
  return `${url.origin}${path.endsWith(tracesPath) ? path : `${path}${tracesPath}`}`
}

function parseResourceAttribute(text: string): ResourceAttribute {
  const [, name, value] = /^([a-z][a-z0-9_.-]{0,127})=([\x20-\x7e]{1,255})$/.exec(text) ?? []
  if (name === undefined || value === undefined)
    throw new ValueFault('NAME=VALUE: a name of a-z, 0-9 and "._-", a value of 1 to 255 printable characters')
  if (name === 'service.name' || name === 'service.version' || name === 'host.name')
    throw new ValueFault(`another name: ${name} is what Pawl says itself`)
  return Object.freeze({ name, value })
}
