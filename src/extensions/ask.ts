import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { BootContext } from '../boot/context.ts'
import type { ExtensionFault, ExtensionOutcome, ExtensionQuestion } from '../boot/extension.ts'
import { extensionSigner } from '../boot/extension-keys.ts'
import { ringAlgorithm } from '../boot/key-ring.ts'
import { epoxyBody, mediaTypeOf } from '../domain/extension.ts'
import { isPawlError } from '../errors.ts'
import { extensionIssuer, extensionTarget } from '../fleet/extension-view.ts'
import { answerTo, reasonOf } from '../outgoing/answer.ts'
import type { Resolve } from '../outgoing/resolve.ts'
import { NotAllowed, type OutgoingTarget, openAddresses, requestTo, unless } from '../outgoing/target.ts'

/** A JWT is good for so long: it is made for one question, and sent at once. */
export const jwtSeconds = 60
/** What its header says it is, so that it cannot pass for another kind of token. */
export const jwtType = 'pawl-extension+jwt'

/** What a test may set. */
export interface AskOptions {
  readonly resolve?: Resolve | undefined
}

/** A fault that is known by its name. */
class Fault extends Error {
  readonly fault: ExtensionFault
  readonly answer: { readonly status: number; readonly type: string; readonly body: Uint8Array } | undefined

  constructor(fault: ExtensionFault, reason: string, answer?: Fault['answer']) {
    super(reason)
    this.fault = fault
    this.answer = answer
  }
}

/**
 * Asks a service once: signs who asks, connects to an address that was judged, follows no redirect, and takes an answer of its type
 * and size in its time. Nothing of the node's own request goes along but its query. Never rejects.
 */
export async function askService(
  context: BootContext,
  question: ExtensionQuestion,
  { resolve }: AskOptions = {},
): Promise<ExtensionOutcome> {
  const { extension } = question
  const jti = Buffer.from(context.randomBytes(16)).toString('base64url')
  const cut = new AbortController()
  const timer = setTimeout(() => cut.abort(), extension.timeout_seconds * 1000)
  try {
    const target = extensionTarget(context, extension)
    if (question.forJoin === true && target.url.protocol !== 'https:')
      throw new Fault('not-allowed', 'what a node runs must come by https://')
    const rules = {
      allowed: context.settings.extensionAllowedNetworks,
      setting: 'extensionAllowedNetworks',
      resolve,
    }
    const addresses = await unless(cut.signal, openAddresses(target.url, rules))
    const body = Buffer.from(epoxyBody(question.v1))
    const jwt = await signed(context, question, { url: target.url, body, jti })
    const answer = await exchange(target, addresses, { body, jwt, signal: cut.signal }, extension)
    return { kind: 'answered', jti, ...answer }
  } catch (error) {
    return { kind: 'failed', jti, ...faultOf(error, cut.signal.aborted, extension.timeout_seconds) }
  } finally {
    clearTimeout(timer)
  }
}

/** The JWT that says who asks what of whom: for this URL, this body and this minute alone. */
async function signed(
  context: BootContext,
  { extension, node, session }: ExtensionQuestion,
  { url, body, jti }: { readonly url: URL; readonly body: Buffer; readonly jti: string },
): Promise<string> {
  const { kid, key } = await extensionSigner(context)
  const { SignJWT } = await import('jose') // not at the start: most fleets have no extensions
  const now = Math.floor(context.clock().getTime() / 1000)
  return new SignJWT({
    operation: extension.operation,
    session,
    body_sha256: createHash('sha256').update(body).digest('base64url'),
  })
    .setProtectedHeader({ alg: ringAlgorithm, kid, typ: jwtType })
    .setIssuer(extensionIssuer(context))
    .setSubject(node)
    .setAudience(url.href)
    .setJti(jti)
    .setIssuedAt(now)
    .setExpirationTime(now + jwtSeconds)
    .sign(key)
}

async function exchange(
  target: OutgoingTarget,
  addresses: readonly string[],
  { body, jwt, signal }: { readonly body: Buffer; readonly jwt: string; readonly signal: AbortSignal },
  limits: { readonly max_answer_bytes: number; readonly answer_types: string },
): Promise<{ status: number; type: string; body: Uint8Array }> {
  const request = requestTo(target, addresses, signal)
  for (const [name, value] of Object.entries({
    'content-type': 'application/json',
    'content-length': String(body.length),
    accept: (JSON.parse(limits.answer_types) as string[]).join(', '), // our own column
    'accept-encoding': 'identity',
    'user-agent': 'pawl',
    authorization: `Bearer ${jwt}`,
  }))
    request.setHeader(name, value)
  try {
    const answer = await taken(await answerTo(request, body), limits)
    // A body that ends with its connection looks whole when we have cut it.
    if (signal.aborted) throw new Fault('timeout', 'cut off')
    return answer
  } finally {
    request.destroy()
  }
}

async function taken(
  response: IncomingMessage,
  limits: { readonly max_answer_bytes: number; readonly answer_types: string },
): Promise<{ status: number; type: string; body: Uint8Array }> {
  const status = response.statusCode ?? 0
  if (status >= 300 && status < 400)
    throw new Fault('redirect', `it answers ${status}: redirects are not followed`)
  // RFC 9110 §15 ends at 599, and so does what we can pass on.
  if (status < 200 || status > 599) throw new Fault('status', `it answers ${status}, which is no status`)
  const written = response.headers['content-type']
  const type = mediaTypeOf(written)
  const types = JSON.parse(limits.answer_types) as string[] // our own column
  const fits =
    type !== undefined && types.includes(type) && response.headers['content-encoding'] === undefined
  const good = status >= 200 && status < 300
  if (!fits && good)
    throw new Fault('wrong-type', `its answer is ${shown(response)}, not ${types.join(' or ')}`)
  // What an error says is passed on only where an answer could say it.
  if (!fits) throw new Fault('status', `it answers ${status}`)
  const body = await whole(response, limits.max_answer_bytes)
  const answer = { status, type: written ?? type, body }
  if (!good) throw new Fault('status', `it answers ${status}`, answer)
  return answer
}

function shown({ headers }: IncomingMessage): string {
  const type = mediaTypeOf(headers['content-type']) ?? 'of no type'
  return headers['content-encoding'] === undefined ? type : `${type}, encoded`
}

async function whole(response: IncomingMessage, most: number): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  let bytes = 0
  const tooLarge = (): Fault => new Fault('too-large', `its answer is larger than ${most} bytes`)
  if (Number(response.headers['content-length'] ?? 0) > most) throw tooLarge()
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > most) throw tooLarge()
    chunks.push(chunk)
  }
  if (!response.complete) throw new Fault('unreachable', 'its answer broke off')
  return Buffer.concat(chunks)
}

function faultOf(
  error: unknown,
  late: boolean,
  seconds: number,
): Pick<Extract<ExtensionOutcome, { kind: 'failed' }>, 'fault' | 'reason' | 'answer'> {
  if (late) return { fault: 'timeout', reason: `no whole answer in ${seconds} s` }
  if (error instanceof Fault) {
    const { fault, message: reason, answer } = error
    return { fault, reason, ...(answer === undefined ? {} : { answer }) }
  }
  if (error instanceof NotAllowed) return { fault: 'not-allowed', reason: error.message }
  if (isPawlError(error, 'key-unreadable')) return { fault: 'key-unreadable', reason: error.message }
  return { fault: 'unreachable', reason: reasonOf(error, 'the CA of the extension') }
}
