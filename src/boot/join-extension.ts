import { extensionLimits } from '../domain/extension.ts'
import { kubeadmAnswer, scriptAnswer } from '../domain/join/extension.ts'
import type { Join } from '../domain/join.ts'
import { Refusal } from '../domain/refusal.ts'
import { PawlError } from '../errors.ts'
import { countCall, findExtension } from '../storage/extensions.ts'
import type { BootContext } from './context.ts'
import { type ExtensionOutcome, type ExtensionQuestion, noteFault, questionOf } from './extension.ts'
import type { OpenedToken } from './open-token.ts'
import type { Work } from './work.ts'

/**
 * A join that an extension answers, in three steps: the question is made in the transaction that finds the join token good, the
 * service is asked outside of any, and the redemption then renders what it said. Where it says nothing that fits, the token is as it
 * was, and the node comes again.
 */

type ExtensionJoin = Extract<Join, { kind: 'extension' }>

/** A question that must be asked before the join token can be redeemed. */
export class PlannedQuestion {
  readonly join: ExtensionJoin
  readonly subject: { readonly node: string; readonly session: string }
  readonly question: ExtensionQuestion | undefined

  constructor(
    join: ExtensionJoin,
    subject: { readonly node: string; readonly session: string },
    question: ExtensionQuestion | undefined,
  ) {
    this.join = join
    this.subject = subject
    this.question = question
  }
}

/** What the service answered, checked: values for the template, or the script itself. */
export interface AnsweredQuestion {
  readonly jti: string
  readonly bytes: number
  readonly status: number
  readonly values?: Readonly<Record<string, string>>
  readonly script?: string
}

const retrySeconds = 10

/** Makes the question for a boot's join. Throws a Refusal where the boot has asked as often as it may. */
export async function planQuestion(
  work: Work,
  { node, session, pinned }: OpenedToken,
  join: ExtensionJoin,
  source: string,
): Promise<PlannedQuestion> {
  const { operation } = join.settings
  const subject = { node: node.name, session: session.id }
  if (pinned.extensions?.includes(operation) !== true)
    throw new Refusal('extension-not-allowed', { ...subject, detail: { operation } })
  if ((await countCall(work.tx, session.id, operation)) > extensionLimits.callsOfSession)
    throw new Refusal('extension-too-often', { ...subject, detail: { operation } })
  const extension = await findExtension(work.tx, operation)
  if (extension === undefined) return new PlannedQuestion(join, subject, undefined)
  const question = await questionOf(work, { node, session, extension, request: { source, rawQuery: '' } })
  return new PlannedQuestion(join, subject, { ...question, forJoin: true })
}

/** Asks. Throws `join-unavailable` where there is no answer that fits; operators find why among the events. */
export async function askQuestion(
  context: BootContext,
  { join, subject, question }: PlannedQuestion,
  source: string,
): Promise<AnsweredQuestion> {
  const { operation } = join.settings
  const outcome = await asked(context, operation, question)
  const answered = outcome.kind === 'answered' ? readAnswer(join, outcome) : outcome
  if (!('kind' in answered)) return answered
  noteFault(context, { ...subject, operation, source }, answered)
  throw new PawlError('join-unavailable', `extension ${operation} gave no answer to join by`, {
    hint: 'its events say why: pawl event list --kind extension-failed',
    retryAfterSeconds: retrySeconds,
  })
}

async function asked(
  context: BootContext,
  operation: string,
  question: ExtensionQuestion | undefined,
): Promise<ExtensionOutcome> {
  if (question === undefined || context.extensions === undefined)
    return { kind: 'failed', fault: 'not-configured', reason: `no extension is called ${operation}` }
  return context.extensions.ask(context, question)
}

type Failed = Extract<ExtensionOutcome, { kind: 'failed' }>

function readAnswer(
  { settings }: ExtensionJoin,
  { jti, status, body }: Extract<ExtensionOutcome, { kind: 'answered' }>,
): AnsweredQuestion | Failed {
  const text = Buffer.from(body).toString('utf8')
  const about = { jti, status, bytes: body.length }
  if (settings.answer === 'kubeadm') {
    const values = kubeadmAnswer(text)
    if (values !== undefined) return { ...about, values }
    return wrong(jti, 'its answer is not {"api_address", "token", "ca_hash"} as kubeadm needs them')
  }
  const script = scriptAnswer(text)
  return script === undefined
    ? wrong(jti, 'its answer is no script: it does not begin with #!/')
    : { ...about, script }
}

function wrong(jti: string, reason: string): Failed {
  return { kind: 'failed', fault: 'not-what-was-asked', reason, jti }
}

/** Puts on record, in the transaction of the redemption, that the answer was given to the node. */
export async function noteAnswered(
  work: Work,
  { operation }: ExtensionJoin['settings'],
  of: { readonly node: string; readonly session: string; readonly source: string },
  { jti, bytes, status }: AnsweredQuestion,
): Promise<void> {
  const { node, session, source } = of
  const detail = { operation, status, bytes, jti }
  await work.event({ kind: 'extension-answered', node, session, actor: 'node', source, detail })
  work.afterCommit(() => work.context.meter?.extension(operation, 'answered'))
}
