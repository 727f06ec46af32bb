import { canonicalJson } from '../domain/canonical-json.ts'
import type { ChainSequence } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import { next, type SessionEvent, sessionTransitions } from '../domain/state.ts'
import { advanceSession, touchSession } from '../storage/sessions.ts'
import { markConsumed } from '../storage/tokens.ts'
import type { BootContext } from './context.ts'
import { bootBase } from './entry.ts'
import { mint } from './mint.ts'
import { openToken } from './open-token.ts'
import { noteStarted } from './redeem.ts'
import type { Opened, Stage1Answer } from './stage1-answer.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/**
 * ePoxy's wire for profiles with `tokens: epoxy`: every token is handed out at stage 1, in URLs, and a stage's URL may be
 * asked again until the next stage's is (`epoxy_client` repeats it for up to six hours): consume on advance.
 */
export function epoxyStage1(work: Work, opened: Opened, sequence: ChainSequence): Stage1Answer {
  const { node, session, pinned, format } = opened
  const base = bootBase(work.context.entry, node.name)
  const urlOf = (kind: 'stage2' | 'stage3' | 'report'): string =>
    `${base}/${mint(work, session, kind)}/${kind}`
  const urls = { stage2: urlOf('stage2'), stage3: urlOf('stage3'), report: urlOf('report') }
  // One token for all of them, as ePoxy has it; which it opens is the profile's to say.
  const token = pinned.extensions === undefined ? '' : mint(work, session, 'extension')
  const extensions = (pinned.extensions ?? []).map((operation) => ({
    operation,
    url: `${base}/${token}/extension/${operation}`,
  }))
  const chain = versioned(sequence.chain[format === 'ipxe' ? 'stage1.ipxe' : 'stage1.json'], sequence)
  if (format === 'json') {
    const kargs = {
      ...Object.fromEntries(extensions.map(({ operation, url }) => [`epoxy.${operation}`, url])),
      'epoxy.images_version': sequence.imagesVersion,
      'epoxy.report': urls.report,
      'epoxy.stage2': urls.stage2,
      'epoxy.stage3': urls.stage3,
    }
    return { body: canonicalIndented({ kargs, v1: { chain } }), format, digestsChecked: false }
  }
  const body = work.context.templates.render('epoxy-stage1.ipxe', {
    stage1ChainUrl: chain,
    stage2Url: urls.stage2,
    stage3Url: urls.stage3,
    reportUrl: urls.report,
    imagesVersion: sequence.imagesVersion,
    extensions,
  })
  return { body, format, digestsChecked: false }
}

/** A stage that a client asks for with a token in the path. */
export interface EpoxyRedemption extends Asking {
  readonly stage: 'stage2' | 'stage3'
  readonly token: string
}

const events: Readonly<Record<EpoxyRedemption['stage'], SessionEvent>> = {
  stage2: 'redeem-stage2',
  stage3: 'redeem-stage3',
}

/** Opens a stage, or answers it again while it is the last one opened. The answer is the chain's URL, as ePoxy's. */
export function redeemEpoxy(context: BootContext, request: EpoxyRedemption): Promise<string> {
  return recordingRefusals(context, request, () =>
    inTransaction(context, async (work) => {
      const opened = await openToken(work, request, request.token, { kind: request.stage })
      const { session, node, pinned, token } = opened
      const subject = { node: node.name, session: session.id }
      if (session.tokens !== 'epoxy' || pinned.chain === undefined) throw new Refusal('wrong-order', subject)
      if (token.consumed_at !== null) throw new Refusal('spent-token', subject)
      if (session.state === request.stage) {
        await touchSession(work.tx, session.id, work.now)
        await work.event({
          kind: 'answer-repeated',
          ...who(node.name, session.id, request),
          detail: { stage: request.stage },
        })
      } else {
        const state = next(sessionTransitions, session.state, events[request.stage])
        if (state === undefined)
          throw new Refusal('wrong-order', { ...subject, detail: { state: session.state } })
        await advanceSession(work.tx, session.id, { state, stage: request.stage }, work.now)
        if (request.stage === 'stage2') await noteStarted(work, opened)
        else await markConsumed(work.tx, session.id, 'stage2', work.now)
        await work.event({
          kind: request.stage === 'stage2' ? 'stage2-redeemed' : 'stage3-redeemed',
          ...who(node.name, session.id, request),
          detail: { repeatable: true },
        })
      }
      return canonicalIndented({ v1: { chain: versioned(pinned.chain.chain[request.stage], pinned.chain) } })
    }),
  )
}

function who(
  node: string,
  session: string,
  { source }: Asking,
): { node: string; session: string; actor: string; source: string } {
  return { node, session, actor: 'node', source }
}

function versioned(url: string, { imagesVersion }: ChainSequence): string {
  return url.replaceAll('{{VERSION}}', imagesVersion)
}

/** JSON with sorted keys and ePoxy's four spaces. */
function canonicalIndented(value: unknown): string {
  return JSON.stringify(JSON.parse(canonicalJson(value)), null, 4)
}
