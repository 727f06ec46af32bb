import { createHash, randomBytes } from 'node:crypto'
import { Agent, request } from 'node:https'

/** Machines that boot again and again through a balancer, as iPXE and our agents do: they repeat what had no answer. */
export interface Machines {
  /** Boots that ended, by their sessions. */
  readonly ready: readonly string[]
  /** What must not happen, in words. */
  readonly faults: readonly string[]
  /** Answers that told them to come again, by status; `0` where the connection broke. */
  readonly retries: ReadonlyMap<number, number>
  /** Resolves when so many more boots have ended. */
  more(boots: number): Promise<void>
  /** Lets every machine end the boot it is in. */
  stop(): Promise<void>
}

interface Answer {
  readonly status: number
  readonly body: string
  readonly retryAfter: string | undefined
}

/** What machines know. */
export interface MachinesOptions {
  readonly port: number
  readonly ca: string
  readonly secret: string
  readonly hosts: readonly string[]
}

const pauseMilliseconds = 100

/** Starts them. */
export function startMachines(options: MachinesOptions): Machines {
  const ready: string[] = []
  const faults: string[] = []
  const retries = new Map<number, number>()
  const answers = new Map<string, string>()
  const waiting = new Set<() => void>()
  let stopping = false

  async function live(host: string): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: options.ca })
    while (!stopping) {
      const session = await bootOnce(agent, host)
      if (session === undefined) continue
      ready.push(session)
      for (const look of [...waiting]) look()
    }
    agent.destroy()
  }

  /** Undefined where iPXE has to begin anew: its token was used, and the answer was lost. */
  async function bootOnce(agent: Agent, host: string): Promise<string | undefined> {
    const base = `/v1/boot/${host}`
    const facts = `secret=${options.secret}&serial=${host}&platform=efi&uuid=${uuidOf(host)}`
    const script = await insist(agent, 'GET', `${base}/stage1.ipxe?${facts}`)
    const k = /handover\?k=([\w-]{44})/.exec(script.body)?.[1]
    if (k === undefined) throw new Error(`no handover in ${script.status} ${script.body}`)
    const handover = await insist(agent, 'GET', `${base}/handover?k=${k}`)
    if (handover.status === 403) return undefined
    const { tokens, session } = JSON.parse(handover.body)
    const second = await redeem(agent, `${base}/stage2`, tokens.stage2)
    const third = await redeem(agent, `${base}/stage3`, second.handover.tokens.stage3)
    await redeem(agent, `${base}/join`, third.tokens.join)
    const key = randomBytes(16).toString('base64url')
    const report = await insist(
      agent,
      'POST',
      `${base}/report`,
      {
        Authorization: `Bearer ${tokens.report}`,
        'Idempotency-Key': key,
        'Content-Type': 'application/x-www-form-urlencoded',
      },
      'message=success',
    )
    if (report.status !== 204) faults.push(`report of ${host}: ${report.status} ${report.body}`)
    return session
  }

  async function redeem(agent: Agent, path: string, token: string) {
    const key = randomBytes(16).toString('base64url')
    const headers = { Authorization: `Bearer ${token}`, 'Idempotency-Key': key }
    const answer = await insist(agent, 'POST', path, headers)
    if (answer.status !== 200) {
      faults.push(`${path}: ${answer.status} ${answer.body}`)
      throw new Error(faults.at(-1))
    }
    // However often it is asked: one token has one answer.
    const digest = createHash('sha256').update(answer.body).digest('hex')
    if ((answers.get(token) ?? digest) !== digest) faults.push(`${path}: two answers to one token`)
    answers.set(token, digest)
    return JSON.parse(answer.body)
  }

  /** Until there is an answer that is not "come again". */
  async function insist(
    agent: Agent,
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body = '',
  ): Promise<Answer> {
    for (;;) {
      const answer = await ask(agent, options.port, method, path, headers, body)
      if (answer.status !== 0 && answer.status !== 503) return answer
      retries.set(answer.status, (retries.get(answer.status) ?? 0) + 1)
      if (answer.status === 503 && answer.retryAfter === undefined)
        faults.push(`503 without Retry-After: ${path}`)
      await new Promise((resolve) => setTimeout(resolve, pauseMilliseconds))
    }
  }

  const lives = options.hosts.map((host) =>
    live(host).catch((error: unknown) => {
      faults.push(String(error))
      for (const look of [...waiting]) look()
    }),
  )
  return {
    ready,
    faults,
    retries,
    more: (boots) =>
      new Promise((resolve) => {
        const wanted = ready.length + boots
        const look = (): void => {
          if (ready.length < wanted && faults.length === 0) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
      }),
    async stop() {
      stopping = true
      await Promise.all(lives)
    },
  }
}

function uuidOf(host: string): string {
  const hex = createHash('sha256').update(host).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}

function ask(
  agent: Agent,
  port: number,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: string,
): Promise<Answer> {
  return new Promise((resolve) => {
    const lost = (): void => resolve({ status: 0, body: '', retryAfter: undefined })
    const sending = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        agent,
        timeout: 20_000,
        headers: { ...headers, 'Content-Length': String(body.length) },
      },
      (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        response.once('error', lost).once('close', () => {
          const retryAfter = response.headers['retry-after']
          if (response.complete) resolve({ status: response.statusCode ?? 0, body: text, retryAfter })
          else lost()
        })
      },
    )
    sending.once('error', lost).once('timeout', () => sending.destroy())
    sending.end(body)
  })
}
