/** How a request for an artifact is answered (RFC 9110 sections 8, 13, 14 and 15; RFC 9530). Pure. */
import type { IncomingHttpHeaders } from 'node:http'
import type { Digest } from '../domain/digest.ts'
import { type ByteRange, parseRange } from './range.ts'

/** What is asked for. */
export interface ArtifactRequest {
  /** GET or HEAD. */
  readonly method?: string | undefined
  readonly headers: IncomingHttpHeaders
}

/** What there is. */
export interface Representation {
  readonly digest: Digest
  readonly size: number
  readonly mediaType: string
}

/** The answer, but for its bytes. */
export interface AnswerPlan {
  readonly status: 200 | 206 | 304 | 412 | 416
  readonly headers: Readonly<Record<string, string>>
  /** The bytes of the body; undefined for HEAD and where the status has none. */
  readonly body: ByteRange | undefined
}

/** Decides status and headers, in the order of RFC 9110 section 13.2.2. */
export function planAnswer(request: ArtifactRequest, artifact: Representation): AnswerPlan {
  const { headers } = request
  const etag = etagOf(artifact.digest)
  const validator = { ETag: etag, 'Accept-Ranges': 'bytes' }
  // There is no Last-Modified: conditions on dates are ignored (13.1.3, 13.1.4).
  if (headers['if-match'] !== undefined && !lists(headers['if-match'], etag, 'strong')) {
    return { status: 412, headers: { ...validator, 'Content-Length': '0' }, body: undefined }
  }
  if (headers['if-none-match'] !== undefined && lists(headers['if-none-match'], etag, 'weak')) {
    return { status: 304, headers: validator, body: undefined }
  }
  const range = wantedRange(request, etag, artifact.size)
  if (range === 'unsatisfiable') {
    const none = { 'Content-Range': `bytes */${artifact.size}`, 'Content-Length': '0' }
    return { status: 416, headers: { ...validator, ...none }, body: undefined }
  }
  const partial = range !== 'whole'
  const { start, end } = partial ? range : { start: 0, end: artifact.size }
  return {
    status: partial ? 206 : 200,
    headers: {
      ...validator,
      'Content-Type': artifact.mediaType,
      'Content-Length': String(end - start),
      ...(partial ? { 'Content-Range': `bytes ${start}-${end - 1}/${artifact.size}` } : {}),
      // Of the whole artifact, also with a part of it (RFC 9530 section 3).
      'Repr-Digest': `sha-256=:${Buffer.from(artifact.digest, 'hex').toString('base64')}:`,
    },
    body: request.method === 'HEAD' ? undefined : { start, end },
  }
}

/** An artifact's strong entity tag. */
export function etagOf(digest: Digest): string {
  return `"sha256-${digest}"`
}

/** Range handling is defined for GET only (14.2), and only while the client's copy is of the same bytes (13.1.5). */
function wantedRange({ method, headers }: ArtifactRequest, etag: string, size: number) {
  if (method !== 'GET') return 'whole'
  const condition = headers['if-range']
  if (condition !== undefined && condition !== etag) return 'whole'
  return parseRange(headers.range, size)
}

/** Whether a list of entity tags, or `*`, has ours. A weak tag fits only where the comparison is weak (8.8.3.2). */
function lists(field: string, etag: string, comparison: 'strong' | 'weak'): boolean {
  if (field.trim() === '*') return true
  const tags = field.match(/(?:W\/)?"[^"]*"/g) ?? []
  return tags.some((tag) => tag === etag || (comparison === 'weak' && tag === `W/${etag}`))
}
