import Type from '../../domain/schema.ts'
import type { IssuedNodeCertificate, NodeCertificateView } from '../../fleet/node-certificates.ts'
import { answers, type Page, textOrNull, word } from './answers.ts'

const fields = {
  fingerprint: Type.String(),
  keyType: Type.String(),
  issuedAt: Type.String(),
  issuedBy: Type.String(),
  expiresAt: Type.String(),
  revokedAt: textOrNull,
  revokedBy: textOrNull,
  lastUsedAt: textOrNull,
  lastUsedFrom: textOrNull,
}

/** A client certificate to issue for a node: the key stays where it was made. */
export const newNodeCertificate = Type.Object(
  {
    request: Type.String({ maxLength: 16_384 }),
    expiresAt: Type.Optional(Type.String({ maxLength: 40, description: 'ISO 8601; a year where left out.' })),
  },
  { additionalProperties: false, title: 'NewNodeCertificate' },
)

/** A node's certificate in a path: SHA-256 of its DER, or its first eight digits or more. */
export const nodeCertificatePath = Type.Object({
  name: word,
  fingerprint: Type.String({ pattern: '^[0-9A-Fa-f:]{8,95}$' }),
})

/** A client certificate of a node, as its row has it. */
export const nodeCertificateAnswer = answers<NodeCertificateView>('NodeCertificate')(Type.Object(fields))

/** A node's certificates. */
export const nodeCertificatesAnswer = answers<Page<NodeCertificateView, string>>('NodeCertificates')(
  Type.Object({ items: Type.Array(nodeCertificateAnswer), next: textOrNull }),
)

/** One just issued, PEM. */
export const issuedNodeCertificateAnswer = answers<IssuedNodeCertificate>('IssuedNodeCertificate')(
  Type.Object({ ...fields, node: Type.String(), certificate: Type.String() }),
)
