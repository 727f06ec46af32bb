import { maxSerials } from '../../domain/auto-approval.ts'
import Type from '../../domain/schema.ts'
import type { RefusedFactsView } from '../../fleet/accept-facts.ts'
import type { AutoApprovalView, MadeAutoApproval, RuleSerial } from '../../fleet/auto-approvals.ts'
import type { PendingMachine } from '../../fleet/enrolment.ts'
import { answers, limit, oneOf, type Page, pageFields, textOrNull } from './answers.ts'

/** An answer without a body. */
export const noContent = { 204: Type.Null() }

const serialNumber = Type.String({ pattern: '^[ -~]{1,128}$' })

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
  { rejected: Type.Optional(Type.Boolean()), ...pageFields },
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
export const pendingAnswer = answers<Page<PendingMachine, string>>('PendingMachines')(
  Type.Object({ items: Type.Array(pendingMachine), next: textOrNull }),
)

/** A rule to make. */
export const newAutoApproval = Type.Object(
  {
    name: Type.String({ maxLength: 63 }),
    sources: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 64 }),
    serials: Type.Array(Type.String({ maxLength: 128 }), { maxItems: maxSerials }),
    profile: Type.String({ maxLength: 63 }),
    nodeName: Type.Optional(Type.String({ maxLength: 253 })),
    labels: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 63 }))),
    limit: Type.Optional(Type.Integer()),
    until: Type.Optional(Type.String({ maxLength: 40 })),
    forSeconds: Type.Optional(Type.Integer()),
  },
  { additionalProperties: false },
)

const rule = {
  name: Type.String(),
  state: oneOf(['live', 'used-up', 'expired', 'revoked']),
  sources: Type.Array(Type.String()),
  profile: Type.String(),
  nodeName: Type.String(),
  labels: Type.Record(Type.String(), Type.String()),
  limit: Type.Integer(),
  serials: Type.Integer(),
  used: Type.Integer(),
  createdAt: Type.String(),
  createdBy: Type.String(),
  expiresAt: Type.String(),
  revokedAt: textOrNull,
  revokedBy: textOrNull,
}

/** A rule. */
export const autoApprovalAnswer = answers<AutoApprovalView>()(Type.Object(rule))

/** A rule as it was made. */
export const madeAutoApprovalAnswer = answers<MadeAutoApproval>()(
  Type.Object({ ...rule, warnings: Type.Array(Type.String()) }),
)

/** Every rule. */
export const autoApprovalsAnswer = answers<Page<AutoApprovalView, string>>()(
  Type.Object({ items: Type.Array(autoApprovalAnswer), next: textOrNull }),
)

/** Which serial numbers of a rule to list: all, those that are used, or those that are not. */
export const serialsQuery = Type.Object(
  { used: Type.Optional(Type.Boolean()), limit: Type.Optional(limit), after: Type.Optional(serialNumber) },
  { additionalProperties: false },
)

const ruleSerial = answers<RuleSerial>()(
  Type.Object({ serial: Type.String(), node: textOrNull, source: textOrNull, usedAt: textOrNull }),
)

/** A page of a rule's serial numbers. */
export const serialsAnswer = answers<Page<RuleSerial, string>>()(
  Type.Object({ items: Type.Array(ruleSerial), next: textOrNull }),
)

/** The facts that a node was refused for, and what accepting them changes. */
export const refusedFactsAnswer = answers<RefusedFactsView>()(
  Type.Object({
    node: Type.String(),
    source: Type.String(),
    refusedAt: Type.String(),
    changes: Type.Array(
      Type.Object({ fact: oneOf(['uuid', 'serial', 'mac']), before: textOrNull, now: textOrNull }),
    ),
  }),
)

/** Which refused facts are accepted: those of this time and no others. */
export const acceptance = Type.Object(
  { refusedAt: Type.String({ maxLength: 40 }) },
  { additionalProperties: false },
)
