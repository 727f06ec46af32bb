import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { PawlError } from '../../errors.ts'
import { loadWebAssets, type WebAsset, type WebAssets } from '../web-assets.ts'
import { type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** What the dashboard may do: run its own modules, ask this server, and nothing from elsewhere. */
const dashboardPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ')

const hidden = (operationId: string, summary: string) => ({
  ...op('operators', operationId, summary),
  hide: true,
})

/** The dashboard. Nothing in it is secret: who may see what is the API's matter. */
export function webRoutes(app: OperatorApp, { signIn }: OperatorParts): void {
  let loading: Promise<WebAssets> | undefined
  const assets = (): Promise<WebAssets> => {
    loading ??= loadWebAssets().catch((error: unknown) => {
      loading = undefined
      throw error
    })
    return loading
  }
  const anyone = { config: { role: 'anyone' } } as const
  app.get('/', { ...anyone, schema: hidden('getDashboard', 'The dashboard.') }, async (request, reply) => {
    const page = (await assets()).page(signIn === undefined ? 'token' : 'provider')
    const etag = `"${createHash('sha256').update(page).digest('hex').slice(0, 32)}"`
    reply.headers({
      'content-security-policy': dashboardPolicy,
      'referrer-policy': 'same-origin',
      'cross-origin-opener-policy': 'same-origin',
      'x-frame-options': 'DENY',
      'cache-control': 'no-cache',
      etag,
    })
    if (request.headers['if-none-match'] === etag) return reply.code(304).send()
    return reply.type('text/html; charset=utf-8').send(page)
  })
  app.get(
    '/assets/:hash/*',
    { ...anyone, schema: hidden('getDashboardFile', 'A file of the dashboard.') },
    async (request, reply) => {
      // Looked up among the files there are, so there is nothing to check.
      const { hash, '*': name = '' } = request.params as { hash: string; '*'?: string }
      const all = await assets()
      const asset = hash === all.hash ? all.find(name) : undefined
      if (asset === undefined) throw new PawlError('not-found', 'there is no such file: load the page again')
      return send(request, reply, asset)
    },
  )
}

function send(request: FastifyRequest, reply: FastifyReply, asset: WebAsset): FastifyReply {
  const accepted = String(request.headers['accept-encoding'] ?? '')
  const [encoding, bytes] = /\bbr\b/.test(accepted)
    ? (['br', asset.brotli] as const)
    : /\bgzip\b/.test(accepted)
      ? (['gzip', asset.gzip] as const)
      : ([undefined, asset.bytes] as const)
  if (encoding !== undefined) reply.header('content-encoding', encoding)
  return reply
    .headers({ 'cache-control': 'public, max-age=31536000, immutable', vary: 'accept-encoding' })
    .type(asset.type)
    .send(bytes)
}
