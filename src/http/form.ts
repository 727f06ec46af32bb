import { PawlError } from '../errors.ts'

/** Fields of a query or form; a name given more than once becomes a list, which the reader of the field refuses. */
export type Fields = Readonly<Record<string, unknown>>

/**
 * Reads a query string or urlencoded body. Never throws: bytes that are not UTF-8 become U+FFFD, which no field of ours
 * allows (iPXE sign-extends bytes above 0x7f and sends `%FFFFFFC3`).
 */
export function parseUrlEncoded(text: string): Fields {
  return collect(new URLSearchParams(text))
}

/**
 * Reads a query string. Here `+` is a plus sign, not a space: iPXE sends it as it is (a serial number `a+b`, its own
 * version), and a space as `%20`. Form bodies keep the form's meaning.
 */
export function parseQuery(text: string): Fields {
  if (text === '') return Object.create(null)
  return parseUrlEncoded(text.replaceAll('+', '%2B'))
}

/** Reads a small request body by its content type: urlencoded, multipart or JSON. Throws `invalid`. */
export async function parseBody(contentType: string | undefined, body: Buffer | undefined): Promise<Fields> {
  if (body === undefined || body.length === 0) return {}
  const type = (contentType ?? '').split(';')[0]?.trim().toLowerCase()
  if (type === '' || type === 'application/x-www-form-urlencoded')
    return parseUrlEncoded(body.toString('utf8'))
  if (type === 'multipart/form-data') return parseMultipart(contentType ?? '', body)
  if (type === 'application/json') return parseJson(body)
  throw new PawlError('invalid', 'the body is of a type that is not taken here', {
    hint: 'send application/x-www-form-urlencoded, multipart/form-data or application/json',
  })
}

async function parseMultipart(contentType: string, body: Buffer): Promise<Fields> {
  try {
    const form = await new Response(new Uint8Array(body), {
      headers: { 'content-type': contentType },
    }).formData()
    return collect(
      [...form].map(([name, value]): [string, string] => [name, typeof value === 'string' ? value : '']),
    )
  } catch (cause) {
    throw new PawlError('invalid', 'the body is not the multipart form its type says', { cause })
  }
}

function parseJson(body: Buffer): Fields {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return flat(value)
  } catch {
    // falls through to the one error for both
  }
  throw new PawlError('invalid', 'the body is not a JSON object')
}

/** No field of ours is a list or an object. What is in one is dropped: nested deep enough, it could not go to another process. */
function flat(value: object): Fields {
  const fields: Record<string, unknown> = Object.create(null)
  for (const [name, one] of Object.entries(value)) fields[name] = typeof one === 'object' && one ? [] : one
  return fields
}

function collect(pairs: Iterable<[string, string]>): Fields {
  // No prototype: a field named "__proto__" is a field like any other.
  const fields: Record<string, string | string[]> = Object.create(null)
  for (const [name, value] of pairs) {
    const before = fields[name]
    if (before === undefined) fields[name] = value
    else if (typeof before === 'string') fields[name] = [before, value]
    else before.push(value) // in place: thousands of one name must not cost the square of that
  }
  return fields
}
