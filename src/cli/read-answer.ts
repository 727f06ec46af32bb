import type { IncomingMessage } from 'node:http'
import { type ErrorCode, errorCodes, PawlError } from '../errors.ts'

/** What the server answered, read to its end. */
export interface Answered {
  readonly status: number
  readonly type: string
  readonly text: string
  /** Upload-Offset; 0 where there is none. */
  readonly uploadOffset?: number
}

const maxAnswerBytes = 64 * 2 ** 20

/** Reads an answer to its end, up to a limit. */
export async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxAnswerBytes)
      throw new PawlError('too-large', 'the answer of the server is larger than 64 MiB')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The JSON document of an answer; throws the problem that it is, or that it is of another server. */
export function readAnswer(answered: Answered): unknown {
  refuseProblem(answered)
  if (answered.status === 204) return undefined
  const value = answered.type === 'application/json' ? parse(answered.text) : undefined
  if (value === undefined) throw notPawl(answered)
  return value
}

/** Throws what the server says is wrong, as if it had been thrown here. */
export function refuseProblem(answered: Answered): void {
  const { status, type, text } = answered
  if (status >= 200 && status < 300) return
  if (text === '' && isSilent(status)) throw silentProblem(status)
  const problem = type === 'application/problem+json' ? parse(text) : undefined
  if (problem === undefined) throw notPawl(answered)
  const { detail, code, hint, requestId } = problem as Readonly<Record<string, unknown>>
  if (typeof detail !== 'string') throw notPawl(answered)
  const advice =
    typeof hint === 'string'
      ? hint
      : typeof requestId === 'string'
        ? `the server's log has the cause under request id ${requestId}`
        : undefined
  throw new PawlError(isCode(code) ? code : 'internal', detail, advice === undefined ? {} : { hint: advice })
}

/** HEAD has no body to say it in. */
const silentProblems = {
  403: ['forbidden', 'the operator token does not have the role this needs'],
  503: ['overloaded', 'the server has no room for this request now'],
} as const satisfies Record<number, readonly [ErrorCode, string]>

function isSilent(status: number): status is keyof typeof silentProblems {
  return Object.hasOwn(silentProblems, status)
}

function silentProblem(status: keyof typeof silentProblems): PawlError {
  const [code, message] = silentProblems[status]
  return new PawlError(code, message)
}

/** The error for an answer that is not of the API. */
export function notPawl({ status }: Answered): PawlError {
  return new PawlError(
    'unreachable',
    `the server answered ${status} in a form that this pawl does not know`,
    {
      hint: 'is this the operator listener, and of the same version?',
    },
  )
}

function isCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorCodes, code)
}

/** A JSON object, or undefined. */
export function parse(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}
