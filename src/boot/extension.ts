import { isSingle } from '../domain/address.ts'
import { type ExtensionV1, extensionLimits } from '../domain/extension.ts'
import { Refusal } from '../domain/refusal.ts'
import type { SessionState } from '../domain/state.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import { countCall, findExtension } from '../storage/extensions.ts'
import { listAddresses } from '../storage/nodes.ts'
import { touchSession } from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { openToken } from './open-token.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/**
 * A booting node asks a service of the user's own, through us: we say who asks, sign it, and bound the answer. The service is
 * asked outside of every transaction, and may take seconds: whether the boot is still alive is looked at before and after.
 */

/** A node asks for an operation. */
export interface ExtensionRequest extends Asking {
  readonly token: string | undefined
  readonly operation: string
  /** What stood behind the `?`, as it stood there. */
  readonly rawQuery: string
}

/** What the node is answered. */
export interface ExtensionAnswer {
  readonly status: number
  readonly type: string
  readonly body: Uint8Array
  readonly retryAfterSeconds?: number
}

/** What is asked of a service, and for whom. */
export interface ExtensionQuestion {
  readonly extension: ExtensionRow
  readonly node: string
  readonly session: string
  readonly v1: ExtensionV1
  /** The answer becomes a script: it must come by HTTPS. */
  readonly forJoin?: boolean
}

/** Why there is no answer. */
export type ExtensionFault =
  | 'busy'
  | 'not-configured'
  | 'not-allowed'
  | 'timeout'
  | 'unreachable'
  | 'redirect'
  | 'status'
  | 'too-large'
  | 'wrong-type'
  | 'not-what-was-asked'
  | 'key-unreadable'

/** What came of a question. */
export type ExtensionOutcome =
  | {
      readonly kind: 'answered'
      readonly status: number
      /** The media type, as the service wrote it. */
      readonly type: string
      readonly body: Uint8Array
      /** The JWT's, for finding the question in the service's log. */
      readonly jti: string
    }
  | {
      readonly kind: 'failed'
      readonly fault: ExtensionFault
      /** In words, for operators. */
      readonly reason: string
      readonly jti?: string
      /** Of a service that answered with an error: what it said of it. */
      readonly answer?: { readonly status: number; readonly type: string; readonly body: Uint8Array }
    }

/** Asks services. Never rejects: what goes wrong is the outcome. */
export interface ExtensionService {
  ask(context: BootContext, question: ExtensionQuestion): Promise<ExtensionOutcome>
}

/** ePoxy's clients ask with a token that they were given at stage 1: before stage 2 nothing of theirs runs. */
const mayAsk: ReadonlySet<SessionState> = new Set(['stage2', 'stage3', 'joining'])

/** Statuses of our own, where the service has none to give. */
const statuses: Readonly<Partial<Record<ExtensionFault, number>>> = {
  busy: 503,
  'not-configured': 500,
  timeout: 504,
}
const retrySeconds = 10

/** Asks an extension for a node. Throws the Refusal that says why it may not; what goes wrong at the service is an answer. */
export function askExtension(context: BootContext, request: ExtensionRequest): Promise<ExtensionAnswer> {
  return recordingRefusals(context, request, async () => {
    const { operation } = request
    const begun = await inTransaction(context, (work) => begin(work, request))
    const outcome = await askFor(context, begun, operation)
    if (outcome.kind === 'failed') {
      noteFault(context, { ...begun, operation, source: request.source }, outcome)
      return faultAnswer(operation, outcome)
    }
    // Who was disabled meanwhile, or has begun anew, is given nothing.
    await inTransaction(context, async (work) => {
      const { node, session } = await opened(work, request)
      await work.event({
        kind: 'extension-answered',
        node: node.name,
        session: session.id,
        actor: 'node',
        source: request.source,
        detail: { operation, status: outcome.status, bytes: outcome.body.length, jti: outcome.jti },
      })
    })
    context.meter?.extension(operation, 'answered')
    return { status: outcome.status, type: outcome.type, body: outcome.body }
  })
}

/** A question, as far as the database knows. */
interface Begun {
  readonly node: string
  readonly session: string
  readonly question: ExtensionQuestion | undefined
}

async function begin(work: Work, request: ExtensionRequest): Promise<Begun> {
  const { node, session } = await opened(work, request)
  const { operation } = request
  const count = await countCall(work.tx, session.id, operation)
  if (count > extensionLimits.callsOfSession)
    throw new Refusal('extension-too-often', { node: node.name, session: session.id, detail: { operation } })
  await touchSession(work.tx, session.id, work.now)
  const extension = await findExtension(work.tx, operation)
  const question =
    extension === undefined ? undefined : await questionOf(work, { node, session, extension, request })
  return { node: node.name, session: session.id, question }
}

async function opened(
  work: Work,
  request: ExtensionRequest,
): Promise<{ readonly node: NodeRow; readonly session: SessionRow }> {
  const { node, session, pinned } = await openToken(work, request, request.token, { kind: 'extension' })
  const subject = { node: node.name, session: session.id }
  if (!mayAsk.has(session.state))
    throw new Refusal('wrong-order', { ...subject, detail: { state: session.state } })
  if (pinned.extensions?.includes(request.operation) !== true)
    throw new Refusal('extension-not-allowed', {
      ...subject,
      detail: { operation: request.operation.slice(0, 64) },
    })
  return { node, session }
}

/** What a service is told of a node: its registered addresses, as ePoxy tells them, or else the one that it comes from. */
export async function questionOf(
  { tx }: Pick<Work, 'tx'>,
  of: {
    readonly node: NodeRow
    readonly session: SessionRow
    readonly extension: ExtensionRow
    readonly request: { readonly source: string; readonly rawQuery: string }
  },
): Promise<ExtensionQuestion> {
  const { node, session, extension, request } = of
  const registered = (await listAddresses(tx, node.id)).filter(isSingle).map(({ address }) => address)
  const known = [...registered, request.source]
  return {
    extension,
    node: node.name,
    session: session.id,
    v1: {
      hostname: node.name,
      ipv4Address: known.find((address) => !address.includes(':')) ?? '',
      ipv6Address: known.find((address) => address.includes(':')) ?? '',
      lastBoot: new Date(session.started_at),
      rawQuery: request.rawQuery,
    },
  }
}

async function askFor(
  context: BootContext,
  { question }: Begun,
  operation: string,
): Promise<ExtensionOutcome> {
  if (question === undefined || context.extensions === undefined)
    return { kind: 'failed', fault: 'not-configured', reason: `no extension is called ${operation}` }
  return context.extensions.ask(context, question)
}

/** Puts on record why a service gave no answer: a few times, and then counted. */
export function noteFault(
  context: BootContext,
  of: {
    readonly node: string
    readonly session: string
    readonly operation: string
    readonly source: string
  },
  { fault, reason, jti }: Extract<ExtensionOutcome, { kind: 'failed' }>,
): void {
  const { node, session, operation, source } = of
  context.meter?.extension(operation, fault)
  context.refusals.record({
    kind: 'extension-failed',
    cause: `${operation}: ${fault}`,
    node,
    session,
    source,
    detail: { operation, fault, reason, ...(jti === undefined ? {} : { jti }) },
  })
}

/** What a node is told: what the service itself said of an error, or one line. Why is for operators: it names addresses. */
function faultAnswer(
  operation: string,
  { fault, answer }: Extract<ExtensionOutcome, { kind: 'failed' }>,
): ExtensionAnswer {
  if (answer !== undefined) return answer
  const text = `extension ${operation} gave no answer: ask again\n`
  return {
    status: statuses[fault] ?? 502,
    type: 'text/plain',
    body: Buffer.from(text),
    retryAfterSeconds: retrySeconds,
  }
}
