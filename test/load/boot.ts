import { randomBytes } from 'node:crypto'
import { type Answer, requestText } from './exchange.ts'

/** A node that is played. */
export interface PlayedNode {
  readonly host: string
  readonly secret: string
}

/** What a node holds behind stage 1 and the handover. */
export interface Begun {
  readonly host: string
  readonly stage2: string
  readonly report: string
}

/** Sends one request, on whatever connection. */
export type Ask = (request: string) => Promise<Answer>

const form = 'application/x-www-form-urlencoded'

/** What iPXE asks stage 1. */
export function stage1Request({ host, secret }: PlayedNode): string {
  const facts = `serial=${host}&platform=efi&uuid=${uuidOf(host)}`
  return requestText('GET', `/v1/boot/${host}/stage1.ipxe?secret=${secret}&${facts}`)
}

/** Stage 1 and the handover, as iPXE asks for them. */
export async function beginBoot(ask: Ask, node: PlayedNode): Promise<Begun> {
  const { host } = node
  const base = `/v1/boot/${host}`
  const script = await served(ask, stage1Request(node))
  const k = /handover\?k=([\w-]{44})/.exec(script)?.[1]
  const handover = await served(ask, requestText('GET', `${base}/handover?k=${k}`))
  const { stage2, report } = (JSON.parse(handover) as { tokens: { stage2: string; report: string } }).tokens
  return { host, stage2, report }
}

/** The redemption of a token, as our agents ask for it. */
export function redemption(host: string, stage: string, token: string): string {
  return requestText('POST', `/v1/boot/${host}/${stage}`, {
    Authorization: `Bearer ${token}`,
    'Idempotency-Key': randomBytes(16).toString('base64url'),
  })
}

/** A whole boot: stage 1, handover, stage 2, stage 3, join, report. */
export async function bootWhole(ask: Ask, node: PlayedNode): Promise<void> {
  const { host, stage2, report } = await beginBoot(ask, node)
  const second = JSON.parse(await served(ask, redemption(host, 'stage2', stage2)))
  const third = JSON.parse(await served(ask, redemption(host, 'stage3', second.handover.tokens.stage3)))
  await served(ask, redemption(host, 'join', third.tokens.join))
  const headers = { Authorization: `Bearer ${report}`, 'Content-Type': form }
  await served(ask, requestText('POST', `/v1/boot/${host}/report`, headers, 'message=success'))
}

/** The body of an answer that must be a good one. */
export async function served(ask: Ask, request: string): Promise<string> {
  const { status, body } = await ask(request)
  if (status !== 200 && status !== 204)
    throw new Error(`${status} ${body.slice(0, 200)} to ${request.split('?')[0]}`)
  return body
}

/** The same machine each time: facts that change would be two machines. */
function uuidOf(host: string): string {
  return `00000000-0000-4000-8000-${host.replace(/\D/g, '').padStart(12, '0')}`
}
