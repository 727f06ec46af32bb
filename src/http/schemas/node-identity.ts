import Type from '../../domain/schema.ts'
import type { IdentityView, NodeIdentityView } from '../../fleet/identity.ts'
import { answers, anyObject, textOrNull } from './answers.ts'

/** The issuer and its keys. */
export const identityAnswer = answers<IdentityView>('IdentityIssuer')(
  Type.Object({
    issuer: Type.String(),
    keys: Type.Array(
      Type.Object({
        kid: Type.String(),
        state: Type.Union([Type.Literal('next'), Type.Literal('signs'), Type.Literal('old')]),
        madeAt: Type.String(),
        signsFrom: Type.String(),
        endsAt: textOrNull,
        jwk: anyObject,
      }),
    ),
  }),
)

/** How keys change. */
export const rotationBody = Type.Object(
  {
    compromised: Type.Optional(
      Type.Boolean({
        description:
          'The new key signs at once and all others are withdrawn: no document of before is good any more.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** The keys that a node's boots registered. */
export const nodeIdentitiesAnswer = answers<{ items: NodeIdentityView[] }>('NodeIdentities')(
  Type.Object({
    items: Type.Array(
      Type.Object({
        thumbprint: Type.String(),
        session: Type.String(),
        current: Type.Boolean(),
        type: Type.String(),
        registeredAt: Type.String(),
        issuedAt: textOrNull,
        issuedUntil: textOrNull,
        issued: Type.Integer(),
        audiences: Type.Array(Type.String()),
      }),
    ),
  }),
)
