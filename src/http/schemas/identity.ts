import { roleNames } from '../../domain/role.ts'
import Type from '../../domain/schema.ts'
import type { BegunLogin } from '../../fleet/login-requests.ts'
import type { CertificateView, IssuedCertificate } from '../../fleet/operator-certificates.ts'
import type { PersonView, SessionView } from '../../fleet/people.ts'
import { answers, oneOf, type Page, textOrNull, word } from './answers.ts'

const time = Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{3})?Z$' })

/** A browser's session. */
export const sessionAnswer = answers<SessionView>('OperatorSession')(
  Type.Object({
    id: Type.String(),
    name: Type.String(),
    role: oneOf(roleNames),
    source: Type.String(),
    createdAt: Type.String(),
    lastSeenAt: Type.String(),
    expiresAt: Type.String(),
  }),
)

/** Sessions that are not over. */
export const sessionsAnswer = answers<Page<SessionView, string>>('OperatorSessions')(
  Type.Object({ items: Type.Array(sessionAnswer), next: textOrNull }),
)

/** Whoever signed in once. */
export const peopleAnswer = answers<Page<PersonView, string>>('People')(
  Type.Object({
    items: Type.Array(
      Type.Object({
        name: Type.String(),
        issuer: Type.String(),
        subject: Type.String(),
        firstSeenAt: Type.String(),
        lastSeenAt: Type.String(),
      }),
    ),
    next: textOrNull,
  }),
)

/** A person whose all was ended. */
export const removedPersonAnswer = Type.Object({ name: Type.String(), tokens: Type.Integer() })

/** A person's path; the name has a slash, which is encoded there. */
export const personPath = Type.Object({ name: word })

/** A command line that begins to wait. */
export const newLogin = Type.Object(
  { label: Type.Optional(Type.String({ pattern: '^[ -~]{1,100}$' })) },
  { additionalProperties: false },
)

/** What it shows its user, and asks again with. */
export const begunLoginAnswer = answers<BegunLogin>('BegunLogin')(
  Type.Object({
    request: Type.String(),
    code: Type.String(),
    url: Type.String(),
    expiresAt: Type.String(),
    intervalSeconds: Type.Integer(),
  }),
)

/** It asks again. */
export const loginPoll = Type.Object(
  { request: Type.String({ maxLength: 64 }) },
  { additionalProperties: false },
)

/** What became of it: with `approved` the token, once. */
export const loginAnswer = Type.Object({
  state: oneOf(['waiting', 'denied', 'approved']),
  intervalSeconds: Type.Optional(Type.Integer()),
  name: Type.Optional(Type.String()),
  role: Type.Optional(oneOf(roleNames)),
  expiresAt: Type.Optional(Type.String()),
  token: Type.Optional(Type.String()),
})

const certificateFields = {
  id: Type.String(),
  fingerprint: Type.String(),
  name: Type.String(),
  role: oneOf(roleNames),
  scope: textOrNull,
  createdAt: Type.String(),
  createdBy: Type.String(),
  expiresAt: Type.String(),
  revokedAt: textOrNull,
  lastUsedAt: textOrNull,
  lastUsedFrom: textOrNull,
}

/** A client certificate to issue: the key stays where it was made. */
export const newCertificate = Type.Object(
  {
    name: Type.String({ maxLength: 63 }),
    role: oneOf(roleNames),
    scope: Type.Optional(Type.String({ maxLength: 63 })),
    expiresAt: Type.Optional(time),
    request: Type.String({ maxLength: 16_384 }),
  },
  { additionalProperties: false },
)

/** A client certificate, as its row has it. */
export const certificateAnswer = answers<CertificateView>('OperatorCertificate')(
  Type.Object(certificateFields),
)

/** Every client certificate. */
export const certificatesAnswer = answers<Page<CertificateView, string>>('OperatorCertificates')(
  Type.Object({ items: Type.Array(certificateAnswer), next: textOrNull }),
)

/** One just issued, PEM. */
export const issuedCertificateAnswer = answers<IssuedCertificate>('IssuedOperatorCertificate')(
  Type.Object({ ...certificateFields, certificate: Type.String() }),
)
