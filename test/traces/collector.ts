import {
  createServer as createHttpServer,
  type IncomingHttpHeaders,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { prepared } from '../cli/helpers/installation.ts'
import { type Read, readRequest } from './protobuf.ts'

/** A span as it arrived; times are milliseconds since 1970. */
export interface SeenSpan {
  readonly trace: string
  readonly id: string
  readonly parent: string | null
  readonly name: string
  readonly start: number
  readonly end: number
  readonly attributes: Readonly<Record<string, unknown>>
  readonly events: readonly {
    readonly name: string
    readonly at: number
    readonly attributes: Readonly<Record<string, unknown>>
  }[]
  readonly droppedEvents: number
  /** 0 unset, 1 ok, 2 error. */
  readonly code: number
  readonly message: string | undefined
  readonly resource: Readonly<Record<string, unknown>>
}

/** One request. */
export interface SeenRequest {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly spans: readonly SeenSpan[]
}

/**
 * Stands in for a collector (none is in Debian's packages): a real HTTP or HTTPS server that reads the protobuf of what it is sent by
 * a reader of its own, and holds it against the rules of the protocol.
 */
export interface Collector {
  readonly url: string
  readonly requests: SeenRequest[]
  /** What was wrong with what it was sent, by the protocol. */
  readonly faults: string[]
  /** What it answers from now on; by default as OTLP says. */
  answer: (response: ServerResponse, request: SeenRequest) => void
  /** The spans of all requests, by trace. */
  traces(): Map<string, SeenSpan[]>
  /** Resolves when it has been sent so many requests. */
  sent(count: number): Promise<void>
  /** Nothing listens there any more, until `open`. */
  shut(): Promise<void>
  open(): Promise<void>
}

/** The answer of a collector that took everything. */
export function takeAll(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
}

/** Starts one; it ends with the test. */
export async function startCollector(t: Test, { tls = false } = {}): Promise<Collector> {
  const { tls: own } = await prepared()
  const requests: SeenRequest[] = []
  const waiting: { readonly count: number; readonly done: () => void }[] = []
  const handle: RequestListener = (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks)
      const { url: path = '', headers, method } = request
      if (method !== 'POST' || headers['content-type'] !== 'application/x-protobuf')
        collector.faults.push(`${method} ${headers['content-type']}`)
      const one = { path, headers, body, spans: spansIn(body, collector.faults) }
      requests.push(one)
      for (const { count, done } of waiting) if (requests.length >= count) done()
      collector.answer(response, one)
    })
  }
  const make = () => (tls ? createServer(own, handle) : createHttpServer(handle))
  let server = make()
  let port = 0
  const open = async (): Promise<void> => {
    server = make()
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
  }
  const shut = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  await open()
  t.teardown(shut)
  const collector: Collector = {
    url: `${tls ? 'https' : 'http'}://localhost:${port}`,
    requests,
    faults: [],
    answer: takeAll,
    traces: () =>
      Map.groupBy(
        requests.flatMap(({ spans }) => spans),
        ({ trace }) => trace,
      ),
    sent: (count) =>
      new Promise((done) => {
        if (requests.length >= count) done()
        else waiting.push({ count, done })
      }),
    shut,
    open,
  }
  return collector
}

function spansIn(body: Buffer, faults: string[]): SeenSpan[] {
  try {
    const spans = list(readRequest(body).resourceSpans).flatMap((from) => {
      const resource = attributesOf((from.resource as Read | undefined)?.attributes, faults)
      return list(from.scopeSpans).flatMap((scope) =>
        list(scope.spans).map((span) => spanOf(span, resource, faults)),
      )
    })
    faults.push(...faultsOf(spans))
    return spans
  } catch (error) {
    faults.push(String(error))
    return []
  }
}

const list = (value: unknown): Read[] => (value as Read[] | undefined) ?? []
const milliseconds = (nanoseconds: unknown): number => Number((nanoseconds as bigint) / 1_000_000n)

function spanOf(span: Read, resource: SeenSpan['resource'], faults: string[]): SeenSpan {
  const status = span.status as Read | undefined
  const [trace, id, parent] = [span.traceId, span.spanId, span.parentSpanId].map(
    (bytes) => (bytes as Buffer | undefined)?.toString('hex') ?? '',
  )
  const kind = Number(span.kind ?? 0)
  if (kind < 1 || kind > 5) faults.push(`${span.name}: kind ${kind}`)
  const code = Number(status?.code ?? 0)
  if (code > 2) faults.push(`${span.name}: status ${code}`)
  if (((Number(span.flags ?? 0) >> 0) & 1) !== 1) faults.push(`${span.name}: not sampled`)
  return {
    trace: trace ?? '',
    id: id ?? '',
    parent: parent === '' || parent === undefined ? null : parent,
    name: String(span.name ?? ''),
    start: milliseconds(span.start),
    end: milliseconds(span.end),
    attributes: attributesOf(span.attributes, faults),
    events: list(span.events).map((event) => ({
      name: String(event.name ?? ''),
      at: milliseconds(event.time),
      attributes: attributesOf(event.attributes, faults),
    })),
    droppedEvents: Number(span.droppedEvents ?? 0),
    code,
    message: status?.message as string | undefined,
    resource,
  }
}

function attributesOf(pairs: unknown, faults: string[]): Readonly<Record<string, unknown>> {
  const found: Record<string, unknown> = {}
  for (const { key, value } of list(pairs)) {
    if (typeof key !== 'string' || key === '' || key in found)
      faults.push(`attribute ${String(key)} is empty or twice`)
    const [[kind, one] = []] = Object.entries((value as Read | undefined) ?? {})
    found[String(key)] =
      kind === 'array'
        ? list((one as Read).values).map(({ string }) => string)
        : kind === 'bool'
          ? one === 1
          : one
  }
  return found
}

/** What the protocol says of ids, names and times, and we of nesting. */
function faultsOf(spans: readonly SeenSpan[]): string[] {
  const faults: string[] = []
  for (const [trace, of] of Map.groupBy(spans, ({ trace }) => trace)) {
    const byId = new Map(of.map((span) => [span.id, span]))
    if (!/^(?!0+$)[0-9a-f]{32}$/.test(trace)) faults.push(`trace id ${trace}`)
    if (byId.size !== of.length) faults.push(`${trace}: a span id is there twice`)
    if (of.filter(({ parent }) => parent === null).length !== 1) faults.push(`${trace}: not one root`)
    for (const { id, name, parent, start, end } of of) {
      if (!/^(?!0+$)[0-9a-f]{16}$/.test(id)) faults.push(`span id ${id}`)
      if (name === '') faults.push(`${id} has no name`)
      if (start > end || start === 0) faults.push(`${name} ends before it begins`)
      if (parent === null) continue
      const above = byId.get(parent)
      if (above === undefined) faults.push(`${name}: no parent ${parent}`)
      else if (start < above.start || end > above.end) faults.push(`${name} is not within ${above.name}`)
    }
  }
  return faults
}
