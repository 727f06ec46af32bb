import { PawlError } from '../../errors.ts'
import { once } from '../../fleet/idempotency.ts'
import { pageOf } from '../../fleet/listed.ts'
import {
  issueNodeCertificate,
  revokeNodeCertificate,
  showNodeCertificates,
} from '../../fleet/node-certificates.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  issuedNodeCertificateAnswer,
  newNodeCertificate,
  nodeCertificateAnswer,
  nodeCertificatePath,
  nodeCertificatesAnswer,
} from '../schemas/node-certificate.ts'
import { bodiless, named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** Client certificates of nodes: evidence for the boot listener, and nothing here. */
export function nodeCertificateRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, issueNodeCertificate: issuer } = parts
  app.get(
    '/nodes/:name/certificates',
    {
      config: { role: 'viewer' },
      schema: {
        ...op('nodes', 'listNodeCertificates', 'Lists the client certificates of a node, the newest first.'),
        params: named,
        querystring: pageQuery,
        response: { 200: nodeCertificatesAnswer },
      },
    },
    async (request) => {
      const all = await showNodeCertificates(context.storage.db, request.params.name)
      return pageOf(all, ({ fingerprint }) => fingerprint, pageAsked(request.query))
    },
  )
  app.post(
    '/nodes/:name/certificates',
    {
      config: {
        role: 'operator',
        revised: true,
        idempotent: true,
        problems: ['certificate-invalid', 'signature-invalid'],
      },
      schema: {
        ...op(
          'nodes',
          'issueNodeCertificate',
          'Issues a client certificate of a node, for the key of a request.',
        ),
        params: named,
        body: newNodeCertificate,
        querystring: nothing,
        response: { 201: issuedNodeCertificateAnswer },
      },
    },
    async (request, reply) => {
      const { expiresAt, request: csr } = request.body
      const asked = { request: csr, ...(expiresAt === undefined ? {} : { expiresAt: timeOf(expiresAt) }) }
      const by = auth.byOf(request)
      const issue = () => issueNodeCertificate(context, issuer, by, request.params.name, asked)
      return reply.code(201).send(await once(context, by, issue))
    },
  )
  app.delete(
    '/nodes/:name/certificates/:fingerprint',
    {
      config: { role: 'operator', revised: true },
      schema: {
        ...op(
          'nodes',
          'revokeNodeCertificate',
          'Takes a client certificate of a node back, at once and for ever.',
        ),
        ...bodiless,
        params: nodeCertificatePath,
        response: { 200: nodeCertificateAnswer },
      },
    },
    (request) =>
      revokeNodeCertificate(context, auth.byOf(request), request.params.name, request.params.fingerprint),
  )
}

function timeOf(text: string): Date {
  const time = new Date(text)
  if (Number.isNaN(time.getTime())) throw new PawlError('invalid', `expiresAt ${text} is no time`)
  return time
}
