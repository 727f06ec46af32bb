import { isIP } from 'node:net'
import { traceTarget } from '../open-traces.ts'
import { sendTraces, type TraceOutcome, type TraceTarget } from '../traces/send.ts'
import { type Finding, fail, ok, type Subject, warn } from './finding.ts'

const check = 'traces'

/** The collector of traces: asked with a request that holds none. */
export async function traces({ config, now }: Subject): Promise<Finding[]> {
  const target = traceTarget(config)
  if (target === undefined) return []
  const outcome = await sendTraces(target, new Uint8Array(), { now })
  return [judged(target, outcome), ...openSecrets(target)]
}

function judged({ url }: TraceTarget, outcome: TraceOutcome): Finding {
  const where = url.href
  if (outcome.kind === 'failed')
    return fail(
      check,
      `${where}: ${outcome.reason}`,
      'boots wait in the log for a day: look at the collector',
    )
  const { status, milliseconds } = outcome
  if (status >= 200 && status < 300) return ok(check, `${where} answers in ${milliseconds} ms`)
  const found = `${where} answers ${status}`
  if (status === 401 || status === 403)
    return fail(check, found, 'put the credentials that it wants into otlpHeadersFile')
  if (status >= 300 && status < 400)
    return fail(
      check,
      `${found}, a redirect`,
      'name the address behind it in otlpEndpoint: it is not followed',
    )
  if (status === 404 || status === 405)
    return fail(check, found, 'otlpEndpoint is to lead to an OTLP/HTTP receiver, often at port 4318')
  if (status === 429 || status >= 500)
    return warn(check, found, 'boots wait in the log for a day: look at the collector')
  return warn(check, `${found} to a request without spans`, 'see whether it takes OTLP/HTTP in protobuf')
}

/** Headers of a collector are keys. */
function openSecrets({ url, headers }: TraceTarget): Finding[] {
  if (url.protocol === 'https:' || Object.keys(headers).length === 0 || isLoopback(url)) return []
  return [
    warn(check, `headers of otlpHeadersFile go to ${url.host} in clear`, 'use https:// in otlpEndpoint'),
  ]
}

function isLoopback({ hostname }: URL): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
