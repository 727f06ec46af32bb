import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { EnrolRequest } from '../../boot/enrol.ts'
import type { RedeemedStage } from '../../boot/redeem.ts'
import type { Report } from '../../boot/report.ts'
import type { SecretWritten } from '../../boot/rotate-secret.ts'
import type { Stage1Format } from '../../boot/stage1-answer.ts'
import type { BootStory } from '../../boot/story.ts'
import type { Asking } from '../../boot/work.ts'
import { maxConsoleBytes } from '../../domain/console-text.ts'
import { parseToldSpans, type ToldSpan } from '../../domain/span.ts'
import { parseSshHostKeys } from '../../domain/ssh-host-key.ts'
import type { StageName } from '../../domain/stage.ts'
import { parseWireguardKey } from '../../domain/wireguard-key.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import { arrivalOf } from '../arrival.ts'
import { clientCertificateOf } from '../client-certificate.ts'
import { type Fields, parseBody } from '../form.ts'
import { sourceOf } from '../source.ts'

type Host = { Params: { host: string } }
type HostToken = { Params: { host: string; token: string } }

const ipxe = 'text/plain; charset=us-ascii'
const json = 'application/json'

/** The routes that nodes ask, but for downloads. All of them on one screen. */
export function bootRoutes(app: FastifyInstance, story: BootStory): void {
  app.get('/_ah/health', async (_request, reply) => reply.type('text/plain').send('ok'))
  app.get('/v1/boot/autoexec.ipxe', async (_request, reply) =>
    reply.type(ipxe).send(await story.siteScript({})),
  )
  const hostless = (url: string, answer: (request: EnrolRequest) => Promise<string>): void => {
    app.route({
      method: ['GET', 'POST'],
      url,
      handler: async (request, reply) => {
        const certificate = clientCertificateOf(request)
        const arrival = arrivalOf(request)
        const who = { host: undefined, source: sourceOf(request), request: url, certificate, arrival }
        const fields = await recordingMalformed(who, () => fieldsOf(request))
        return reply.type(ipxe).send(await answer({ ...who, fields }))
      },
    })
  }
  hostless('/v1/enrol.ipxe', (request) => story.enrol(request))
  hostless('/v1/boot/stage1.ipxe', (request) => story.arrive(request))
  const stage1 = (method: ('GET' | 'POST')[], format: Stage1Format): void => {
    app.route<Host>({
      method,
      url: `/v1/boot/:host/stage1.${format}`,
      handler: async (request, reply) => {
        const fields = await recordingMalformed(asking(request, `stage1.${format}`), () => fieldsOf(request))
        const answer = await story.stage1({ ...asking(request, `stage1.${format}`), fields, format })
        return reply.type(answer?.format === 'json' ? json : ipxe).send(answer?.body)
      },
    })
  }
  stage1(['GET', 'POST'], 'ipxe')
  stage1(['POST'], 'json')
  app.get<Host>('/v1/boot/:host/handover', async (request, reply) => {
    const { k } = request.query as Fields
    const answer = await story.handover({ ...asking(request, 'handover'), token: text(k) })
    return reply.type(json).send(answer)
  })
  for (const stage of ['stage2', 'stage3', 'join'] satisfies RedeemedStage[]) {
    app.post<Host>(`/v1/boot/:host/${stage}`, async (request, reply) => {
      const told = await toldIn(request)
      const redemption = {
        ...asking(request, stage),
        stage,
        token: bearer(request),
        key: keyOf(request),
        told,
      }
      return reply.type(json).send(await story.redeem(redemption))
    })
  }
  app.post<Host>('/v1/boot/:host/report', async (request, reply) => {
    await report(request, bearer(request))
    return reply.code(204).send()
  })
  app.post<Host>('/v1/boot/:host/secret', async (request, reply) => {
    const who = asking(request, 'secret')
    const told = await recordingMalformed(who, async () => writtenOf(await fieldsOf(request)))
    await story.confirmSecret({ ...who, ...told, token: bearer(request) })
    return reply.code(204).send()
  })
  app.post<Host>('/v1/boot/:host/log', { bodyLimit: 2 * maxConsoleBytes }, async (request, reply) => {
    const { stage } = request.query as Fields
    const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0) // the parser of all types makes one
    await story.consoleLog({
      ...asking(request, 'log'),
      token: bearer(request),
      stage: consoleOf(stage),
      body,
    })
    return reply.code(204).send()
  })
  for (const stage of ['stage2', 'stage3'] as const) {
    app.post<HostToken>(`/v1/boot/:host/:token/${stage}`, async (request, reply) => {
      const redemption = { ...asking(request, stage), stage, token: request.params.token }
      return reply.type(json).send(await story.redeemEpoxy(redemption))
    })
  }
  app.post<HostToken>('/v1/boot/:host/:token/report', async (request, reply) => {
    await report(request, request.params.token)
    return reply.code(204).send()
  })

  /** What cannot be read is put on record before it is answered. */
  async function recordingMalformed<T>(asking: Asking, read: () => Promise<T>): Promise<T> {
    return read().catch(async (error: unknown) => {
      if (isPawlError(error, 'invalid')) await story.malformed(asking, error.message)
      throw error
    })
  }

  async function report(request: FastifyRequest<Host>, token: string | undefined): Promise<void> {
    const who = asking(request, 'report')
    const told = await recordingMalformed(who, async () => reportOf(await fieldsOf(request)))
    await story.report({ ...who, ...told, token, key: keyOf(request) })
  }
}

function asking(request: FastifyRequest<Host>, name: string): Asking & { readonly host: string } {
  const certificate = clientCertificateOf(request)
  const [host, source, arrival] = [request.params.host, sourceOf(request), arrivalOf(request)]
  return { host, source, request: name, certificate, arrival }
}

/** The same of a request that need have no body: what cannot be read is no reason to open nothing. */
async function toldIn({ headers, body }: FastifyRequest): Promise<ToldSpan[] | undefined> {
  if ((body as Buffer | undefined)?.length === undefined || (body as Buffer).length === 0) return undefined
  return toldOf(await parseBody(headers['content-type'], body as Buffer).catch((): Fields => ({})))
}

/** What the agent says it did; nothing where it says nothing, or nonsense. */
function toldOf({ spans }: Fields): ToldSpan[] | undefined {
  return typeof spans === 'string' ? parseToldSpans(spans) : undefined
}

/** Whose console it is, by the agent's word. */
function consoleOf(stage: unknown): StageName {
  return stage === 'stage3' || stage === 'join' ? stage : 'stage2'
}

function reportOf(
  fields: Fields,
): Pick<Report, 'message' | 'final' | 'sshHostKeys' | 'wireguardPublicKey' | 'told'> {
  const message = text(fields.message)
  if (message === undefined || message === '')
    throw new PawlError('invalid', 'a report needs a message: "success", or "error: …"')
  const final = fields.final === 'true' || fields.final === true
  const told = toldOf(fields)
  const { ssh_host_keys: sshKeys, wireguard_public_key: wireguardKey } = fields
  return {
    ...{ message, final, told },
    ...(sshKeys === undefined ? {} : { sshHostKeys: parseSshHostKeys(text(sshKeys) ?? 'given twice') }),
    ...(wireguardKey === undefined
      ? {}
      : { wireguardPublicKey: parseWireguardKey(text(wireguardKey) ?? 'given twice') }),
  }
}

function writtenOf(fields: Fields): Pick<SecretWritten, 'id' | 'written' | 'reason'> {
  const id = text(fields.id)
  const written = text(fields.written)
  if (id === undefined || (written !== 'true' && written !== 'false'))
    throw new PawlError('invalid', 'what became of a new secret is told by "id" and "written": true or false')
  return { id: id.slice(0, 64), written: written === 'true', reason: text(fields.reason) ?? '' }
}

/** Query and body together; a field in both is the body's. */
async function fieldsOf(request: FastifyRequest): Promise<Fields> {
  const body = await parseBody(request.headers['content-type'], request.body as Buffer | undefined)
  return { ...(request.query as Fields), ...body }
}

/** The bearer token of a request (RFC 6750 §2.1); undefined where there is none. */
export function bearer(request: FastifyRequest): string | undefined {
  return /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(request.headers.authorization ?? '')?.[1]
}

function keyOf(request: FastifyRequest): string | undefined {
  return text(request.headers['idempotency-key'])
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
