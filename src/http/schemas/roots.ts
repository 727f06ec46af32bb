import Type from '../../domain/schema.ts'
import type { RootsView } from '../../fleet/roots.ts'
import { answers, oneOf, textOrNull } from './answers.ts'

/** Which days count as lately. */
export const rootsQuery = Type.Object(
  { days: Type.Optional(Type.Integer({ minimum: 1, maximum: 3650, default: 30 })) },
  { additionalProperties: false },
)

const sha256 = Type.String({ description: "SHA-256 of the root's DER" })
const pem = Type.String({ description: 'PEM' })

/** The roots that are served, and who needs the old one still. */
export const rootsAnswer = answers<RootsView>('Roots')(
  Type.Object({
    rotation: oneOf(['none', 'made', 'served']),
    entries: Type.Array(
      Type.Object({
        name: oneOf(['main', 'old']),
        publicUrl: Type.String(),
        root: sha256,
        certificates: pem,
        nodes: Type.Integer(),
      }),
    ),
    next: Type.Union([Type.Object({ root: sha256, certificates: pem }), Type.Null()]),
    days: Type.Integer(),
    users: Type.Array(
      Type.Object({
        node: Type.String(),
        lastAt: Type.String(),
        source: Type.String(),
        otherAt: textOrNull,
      }),
    ),
  }),
)
