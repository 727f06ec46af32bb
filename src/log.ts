/**
 * What the log may hold. Three nets, since a secret in a log cannot be taken back:
 * 1. errors, requests and replies are written by serializers that pick what is shown;
 * 2. values under a name that secrets have (`token`, `authorization`, …) are left out at any depth;
 * 3. each finished line is searched for what looks like a secret of ours, wherever it stands, messages included.
 */
import pino from 'pino'
import { isPawlError } from './errors.ts'
import { toStderr } from './log-lines.ts'
import { hideSecrets, withoutSecrets } from './log-redaction.ts'

/** How deep the causes of an error are followed. */
const maxCauses = 5

/** Where lines go; `pino.destination` or a test's collector. */
export type LogDestination = pino.DestinationStream

/** Makes the server's log: one JSON line each, to stderr unless told otherwise. */
export function createLog(level: string, destination: LogDestination = toStderr()): pino.Logger {
  const log = pino(options(level), destination)
  // Formatters do not see what a child is bound to. Children are made from this object, so they have this `child` too.
  const child = log.child
  log.child = function (this: pino.Logger, bindings: pino.Bindings, more?: pino.ChildLoggerOptions) {
    return Reflect.apply(child, this, [withoutSecrets(bindings, serializers), more])
  } as unknown as typeof child // parameters and result are those of the one it calls
  return log
}

function options(level: string): pino.LoggerOptions {
  return {
    level,
    // ISO times: people read logs, and the events that they compare them with have them.
    timestamp: pino.stdTimeFunctions.isoTime,
    base: null,
    formatters: {
      level: (label) => ({ level: label }),
      log: (fields) => withoutSecrets(fields, serializers),
    },
    serializers,
    hooks: { streamWrite: hideSecrets },
  }
}

/** An error as the log shows it; `internal` is shown nowhere else. */
export function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error))
    return typeof error === 'string' ? error : 'something that is not an error was thrown'
  const code = (error as { code?: unknown }).code
  return {
    type: error.name,
    ...(typeof code === 'string' ? { code } : {}),
    message: error.message,
    ...(isPawlError(error) && error.internal !== undefined ? { internal: error.internal } : {}),
    stack: error.stack,
    ...(error.cause === undefined || depth >= maxCauses
      ? {}
      : { cause: describeError(error.cause, depth + 1) }),
  }
}

/** A request's method, route pattern and source: never its URL, headers or body, which hold tokens. */
function describeRequest(request: unknown): unknown {
  const { id, method, routeOptions, ip } = (request ?? {}) as Record<string, unknown>
  const route = (routeOptions as { url?: unknown } | undefined)?.url
  return { id, method, route: typeof route === 'string' ? route : 'none', source: ip }
}

function describeReply(reply: unknown): unknown {
  return { status: (reply as { statusCode?: unknown } | null)?.statusCode }
}

const serializers = {
  err: (error: unknown) => describeError(error),
  error: (error: unknown) => describeError(error),
  req: describeRequest,
  request: describeRequest,
  res: describeReply,
  reply: describeReply,
}
