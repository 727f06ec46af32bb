import { randomBytes } from 'node:crypto'
import { request } from 'node:https'

/** What is base64 and no secret: a run of it can look like a token, and the database has certificates and signatures too. */
const noToken = /-----BEGIN.*?-----END CERTIFICATE-----|"signatures":\[[^\]]*\]/gs

/** One answer over HTTPS. */
export interface Answer {
  readonly status: number
  readonly text: string
}

/** A node played over real HTTPS, without a machine: what iPXE and our agents send, and how they get over a lost answer. */
export interface RobotOptions {
  readonly port: number
  readonly ca: string
  readonly host: string
  readonly secret: string
  /** Called when the server went away in the middle; the robot goes on when it resolves. */
  readonly onLost: () => Promise<void>
  /** Its medium: given a new secret it writes it there, and says so. */
  readonly write?: (secret: string) => void
}

/** How a boot went: how often it began, and how often an answer was lost. */
export interface RobotResult {
  readonly stage1s: number
  readonly lost: number
  /** Every token it was given. */
  readonly tokens: readonly string[]
}

/** Boots to ready, however often it is cut. Throws when the server refuses what it should not. */
export async function bootRobot(options: RobotOptions): Promise<RobotResult> {
  let lost = 0
  const tokens: string[] = []
  /** Asks until there is an answer: the same request, the same key. */
  async function ask(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body = '',
  ): Promise<Answer> {
    for (;;) {
      try {
        const answer = await send(options, method, path, headers, body)
        tokens.push(...(answer.text.replace(noToken, '').match(/(?<![\w-])[\w-]{44}(?![\w-])/g) ?? []))
        return answer
      } catch {
        lost += 1
        await options.onLost()
      }
    }
  }
  for (let stage1s = 1; stage1s <= 5; stage1s++) {
    if (await bootOnce(options, ask)) return { stage1s, lost, tokens }
  }
  throw new Error('five boots, and none got through')
}

/** Boots to the full system; gives what opens the join and the report. */
export async function bootToJoin(
  ask: Ask,
  { host, secret }: Pick<RobotOptions, 'host' | 'secret'>,
): Promise<{ join: string; report: string }> {
  const base = `/v1/boot/${host}`
  const script = await ask('GET', `${base}/stage1.ipxe?secret=${secret}&serial=ROBOT&platform=efi`)
  const k = /handover\?k=([\w-]{44})/.exec(script.text)?.[1]
  const { stage2, report } = JSON.parse((await ask('GET', `${base}/handover?k=${k}`)).text).tokens
  const second = await ask('POST', `${base}/stage2`, { authorization: `Bearer ${stage2}` })
  const { stage3 } = JSON.parse(second.text).handover.tokens
  const third = await ask('POST', `${base}/stage3`, { authorization: `Bearer ${stage3}` })
  return { join: JSON.parse(third.text).tokens.join, report }
}

export type Ask = (
  method: string,
  path: string,
  headers?: Record<string, string>,
  body?: string,
) => Promise<Answer>

/** One attempt; false means: back to stage 1, as iPXE and the agents do when what they hold is refused. */
async function bootOnce({ host, secret, write }: RobotOptions, ask: Ask): Promise<boolean> {
  const base = `/v1/boot/${host}`
  const script = await ask('GET', `${base}/stage1.ipxe?secret=${secret}&serial=ROBOT&platform=efi`)
  if (script.status !== 200) throw new Error(`stage 1: ${script.status} ${script.text}`)
  const k = /handover\?k=([\w-]{44})/.exec(script.text)?.[1]
  const handover = await ask('GET', `${base}/handover?k=${k}`)
  // It opens once: where its answer was lost, iPXE goes back to stage 1.
  if (handover.status === 403) return false
  let { stage2: token, report } = JSON.parse(handover.text).tokens as Record<string, string>
  for (const stage of ['stage2', 'stage3', 'join']) {
    const answer = await ask('POST', `${base}/${stage}`, {
      authorization: `Bearer ${token}`,
      'idempotency-key': key(),
    })
    if (answer.status !== 200) throw new Error(`${stage}: ${answer.status} ${answer.text}`)
    const document = JSON.parse(answer.text)
    if (document.newSecret !== undefined && write !== undefined) {
      write(document.newSecret.secret)
      const told = await ask(
        'POST',
        `${base}/secret`,
        formOf(report),
        `id=${document.newSecret.id}&written=true`,
      )
      if (told.status !== 204) throw new Error(`secret: ${told.status} ${told.text}`)
    }
    token = document.handover?.tokens.stage3 ?? document.tokens?.join
  }
  const done = await ask(
    'POST',
    `${base}/report`,
    { ...formOf(report), 'idempotency-key': key() },
    'message=success',
  )
  if (done.status !== 204) throw new Error(`report: ${done.status} ${done.text}`)
  return true
}

function formOf(token: string | undefined): Record<string, string> {
  return { authorization: `Bearer ${token}`, 'content-type': 'application/x-www-form-urlencoded' }
}

function key(): string {
  return randomBytes(16).toString('base64url')
}

/** One HTTPS request on a connection of its own; rejects when the answer does not arrive whole. */
export function send(
  { port, ca }: { port: number; ca: string },
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body = '',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: '127.0.0.1', port, ca, method, path, headers, agent: false, timeout: 60_000 },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () =>
          response.complete ? resolve({ status: response.statusCode ?? 0, text }) : reject(new Error('cut')),
        )
        response.on('error', reject)
      },
    )
    asked.on('timeout', () => asked.destroy(new Error('no answer')))
    asked.on('error', reject)
    asked.end(body)
  })
}
