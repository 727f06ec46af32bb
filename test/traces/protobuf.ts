/**
 * Reads OTLP from its bytes by the numbers of opentelemetry-proto 1.x (trace.proto, common.proto, resource.proto,
 * trace_service.proto), and by none of OpenTelemetry's own code: what it writes is checked, not repeated. Throws for a field
 * that is not there, or is of another type.
 */

interface Field {
  readonly name: string
  readonly type: 'bytes' | 'string' | 'varint' | 'fixed64' | 'fixed32' | 'double' | Message
  readonly many?: true
}
type Message = Readonly<Record<number, Field>>

const anyValue: Message = {
  1: { name: 'string', type: 'string' },
  2: { name: 'bool', type: 'varint' },
  3: { name: 'int', type: 'varint' },
  4: { name: 'double', type: 'double' },
  5: {
    name: 'array',
    type: { 1: { name: 'values', many: true, type: { 1: { name: 'string', type: 'string' } } } },
  },
}
const keyValue: Message = { 1: { name: 'key', type: 'string' }, 2: { name: 'value', type: anyValue } }
const attributes: Field = { name: 'attributes', type: keyValue, many: true }
const dropped: Field = { name: 'droppedAttributes', type: 'varint' }

const span: Message = {
  1: { name: 'traceId', type: 'bytes' },
  2: { name: 'spanId', type: 'bytes' },
  3: { name: 'traceState', type: 'string' },
  4: { name: 'parentSpanId', type: 'bytes' },
  5: { name: 'name', type: 'string' },
  6: { name: 'kind', type: 'varint' },
  7: { name: 'start', type: 'fixed64' },
  8: { name: 'end', type: 'fixed64' },
  9: attributes,
  10: dropped,
  11: {
    name: 'events',
    many: true,
    type: {
      1: { name: 'time', type: 'fixed64' },
      2: { name: 'name', type: 'string' },
      3: attributes,
      4: dropped,
    },
  },
  12: { name: 'droppedEvents', type: 'varint' },
  14: { name: 'droppedLinks', type: 'varint' },
  15: {
    name: 'status',
    type: { 2: { name: 'message', type: 'string' }, 3: { name: 'code', type: 'varint' } },
  },
  16: { name: 'flags', type: 'fixed32' },
}

const request: Message = {
  1: {
    name: 'resourceSpans',
    many: true,
    type: {
      1: { name: 'resource', type: { 1: attributes, 2: dropped } },
      2: {
        name: 'scopeSpans',
        many: true,
        type: {
          1: {
            name: 'scope',
            type: {
              1: { name: 'name', type: 'string' },
              2: { name: 'version', type: 'string' },
              3: attributes,
              4: dropped,
            },
          },
          2: { name: 'spans', type: span, many: true },
          3: { name: 'schemaUrl', type: 'string' },
        },
      },
      3: { name: 'schemaUrl', type: 'string' },
    },
  },
}

type Value = string | number | bigint | Buffer | Read
export interface Read {
  readonly [name: string]: Value | Value[]
}

/** Reads an `ExportTraceServiceRequest`. */
export function readRequest(bytes: Buffer): Read {
  return read(bytes, request)
}

const wireTypes = { varint: 0, fixed64: 1, double: 1, bytes: 2, string: 2, fixed32: 5 } as const

function read(bytes: Buffer, message: Message): Read {
  const found: Record<string, Value | Value[]> = {}
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at]
      if (byte === undefined || shift > 63n) throw new Error('a varint does not end')
      at += 1
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw new Error('a field does not end')
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const field = message[tag >> 3]
    if (field === undefined)
      throw new Error(`there is no field ${tag >> 3} in ${Object.values(message)[0]?.name}…`)
    const { type } = field
    const wire = typeof type === 'object' ? 2 : wireTypes[type]
    if ((tag & 7) !== wire) throw new Error(`${field.name} has wire type ${tag & 7}, not ${wire}`)
    let value: Value
    if (typeof type === 'object') value = read(take(Number(varint())), type)
    else if (type === 'bytes') value = take(Number(varint()))
    else if (type === 'string')
      value = new TextDecoder('utf-8', { fatal: true }).decode(take(Number(varint())))
    else if (type === 'varint') value = Number(varint())
    else if (type === 'fixed64') value = take(8).readBigUInt64LE()
    else if (type === 'double') value = take(8).readDoubleLE()
    else value = take(4).readUInt32LE()
    if (field.many === true)
      found[field.name] = [...((found[field.name] as Value[] | undefined) ?? []), value]
    else if (field.name in found) throw new Error(`${field.name} is there twice`)
    else found[field.name] = value
  }
  return found
}
