import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { BootStory } from '../../boot/story.ts'
import type { Digest } from '../../domain/digest.ts'
import { parseNodeName } from '../../domain/node.ts'
import { isPawlError } from '../../errors.ts'
import { planAnswer } from '../../images/conditional.ts'
import type { ServedBinaries } from '../../ipxe/served.ts'
import { beginBytes } from '../admit.ts'

type File = { Params: { file: string } }
type NodeFile = { Params: { host: string; file: string } }

const script = 'text/plain; charset=us-ascii'

/**
 * iPXE for firmware that boots by HTTPS (UEFI 2.10, 24.7), and beside it the script that this iPXE looks for in the folder it
 * came from. A node's folder differs by its script only, which names the node. Nothing here is a secret: a path is no place
 * for one, and firmware shows its URL to everybody.
 *
 * Firmware is strict: the type `application/efi` to the letter, a length in the answers to HEAD and GET, the connection kept
 * open between them, no redirect, no chunks, no header without a value.
 */
export function ipxeRoutes(app: FastifyInstance, story: BootStory, binaries: ServedBinaries): void {
  for (const method of ['GET', 'HEAD'] as const) {
    app.route<File>({
      method,
      url: '/v1/ipxe/:file',
      handler: (request, reply) => answer(request, reply, request.params.file, () => story.siteScript({})),
    })
    app.route<NodeFile>({
      method,
      url: '/v1/ipxe/node/:host/:file',
      handler: (request, reply) => {
        const { host, file } = request.params
        // Any name is answered, registered or not: who asks here learns nothing of the fleet.
        if (!isNodeName(host)) return notFound(reply)
        return answer(request, reply, file, () => story.siteScript({ host }))
      },
    })
  }

  async function answer(
    request: FastifyRequest,
    reply: FastifyReply,
    file: string,
    autoexec: () => Promise<string>,
  ): Promise<FastifyReply> {
    if (file === 'autoexec.ipxe') return text(request, reply, await autoexec())
    const found = await binaries.find(file)
    if (found === undefined) return notFound(reply)
    const { sha256, size, platform } = found.binary
    const plan = planAnswer(request, {
      // The index holds SHA-256 in hex, which is what a digest is.
      digest: sha256 as Digest,
      size,
      mediaType: platform === 'efi' ? 'application/efi' : 'application/octet-stream',
    })
    reply.code(plan.status).headers(plan.headers)
    if (plan.body === undefined) return reply.send()
    beginBytes(request, reply, undefined)
    const bytes = found.bytes.subarray(plan.body.start, plan.body.end)
    return reply.send(Readable.from(slicesOf(bytes), { objectMode: false, highWaterMark: sliceBytes }))
  }
}

const sliceBytes = 64 * 1024

/** Written whole, a reader that never reads would keep an encrypted copy of all of it. */
function* slicesOf(bytes: Buffer): Generator<Buffer> {
  for (let from = 0; from < bytes.length; from += sliceBytes) yield bytes.subarray(from, from + sliceBytes)
}

function text(request: FastifyRequest, reply: FastifyReply, body: string): FastifyReply {
  reply.type(script).header('content-length', String(Buffer.byteLength(body)))
  return request.method === 'HEAD' ? reply.send() : reply.send(body)
}

function notFound(reply: FastifyReply): FastifyReply {
  return reply.code(404).type('text/plain').send('not found\n')
}

function isNodeName(text: string): boolean {
  try {
    parseNodeName(text)
    return true
  } catch (error) {
    if (isPawlError(error)) return false
    throw error
  }
}
