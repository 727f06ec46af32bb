import Type from 'typebox'
import type { PendingMachine } from '../../fleet/enrolment.ts'
import { answers, type Page, textOrNull } from './answers.ts'

/** What an approved machine becomes. */
export const approval = Type.Object(
  {
    name: Type.String({ maxLength: 253 }),
    profile: Type.String({ maxLength: 63 }),
    labels: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 63 }))),
    addresses: Type.Optional(Type.Array(Type.String({ maxLength: 64 }), { maxItems: 64 })),
  },
  { additionalProperties: false, title: 'Approval' },
)

/** For how long a machine is turned away; without a body a day. */
export const rejection = Type.Union([
  Type.Null(),
  Type.Object({ forSeconds: Type.Optional(Type.Integer()) }, { additionalProperties: false }),
])

/** Which machines to list: those that wait, or those that were turned away. */
export const pendingQuery = Type.Object(
  { rejected: Type.Optional(Type.Boolean()) },
  { additionalProperties: false },
)

const pendingMachine = answers<PendingMachine>()(
  Type.Object({
    code: Type.String(),
    facts: Type.Unsafe<PendingMachine['facts']>(Type.Record(Type.String(), Type.String())),
    source: Type.String(),
    firstSeenAt: Type.String(),
    lastSeenAt: Type.String(),
    expiresAt: Type.String(),
    rejected: Type.Boolean(),
    claim: Type.Boolean(),
    notByRule: textOrNull,
  }),
)

/** The machines that wait; all of them, the list is bounded. */
export const pendingAnswer = answers<Page<PendingMachine, never>>()(
  Type.Object({ items: Type.Array(pendingMachine), next: Type.Null() }),
)
