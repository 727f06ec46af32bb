import Type from '../../domain/schema.ts'
import type { IssuedOperator, OperatorView } from '../../fleet/operators.ts'
import type { Role } from '../../storage/tables.ts'
import { answers, oneOf, type Page, textOrNull, word } from './answers.ts'

const roles: readonly Role[] = ['viewer', 'operator', 'publisher', 'admin']

/** Who is asking, and by what. */
export const whoamiAnswer = Type.Object({
  name: Type.String(),
  role: oneOf(roles),
  scope: textOrNull,
  how: oneOf(['token', 'session', 'certificate']),
  expiresAt: textOrNull,
  csrf: textOrNull,
})

/** An operator token to make. */
export const newOperator = Type.Object(
  {
    name: Type.String({ maxLength: 63 }),
    role: oneOf(roles),
    expiresAt: Type.Optional(
      Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{3})?Z$' }),
    ),
    scope: Type.Optional(Type.String({ maxLength: 63 })),
  },
  { additionalProperties: false, title: 'NewOperator' },
)

const fields = {
  id: Type.String(),
  name: Type.String(),
  role: oneOf(roles),
  scope: textOrNull,
  createdAt: Type.String(),
  expiresAt: textOrNull,
  revokedAt: textOrNull,
  revision: Type.Integer(),
  lastUsedAt: textOrNull,
  lastUsedFrom: textOrNull,
  personal: Type.Boolean(),
}

/** An operator token, without its secret. */
export const operatorAnswer = answers<OperatorView>('OperatorToken')(Type.Object(fields))

/** Every operator token. */
export const operatorsAnswer = answers<Page<OperatorView, string>>('OperatorTokens')(
  Type.Object({ items: Type.Array(operatorAnswer), next: textOrNull }),
)

/** An operator token just made. */
export const issuedOperatorAnswer = answers<IssuedOperator>('IssuedOperatorToken')(
  Type.Object({ ...fields, token: Type.String() }),
)

/** An operator token's path. */
export const operatorPath = Type.Object({ id: word })
