import Type from '../../domain/schema.ts'
import { secretKinds } from '../../domain/secret.ts'
import type { StageName } from '../../domain/stage.ts'
import { nodeTransitions, reinstallTransitions, sessionTransitions } from '../../domain/state.ts'
import type { NodeView, SessionSummary } from '../../fleet/node-view.ts'
import type { SecretView } from '../../fleet/secret-view.ts'
import type { IssuedSecret } from '../../fleet/secrets.ts'
import { answers, oneOf, type Page, pageFields, textOrNull } from './answers.ts'
import { leavingAnswer } from './leaving.ts'
import { looping, paceOrNull } from './pace.ts'

/** The names of a state table; Object.keys has lost their type. */
function namesOf<Name extends string>(table: Readonly<Record<Name, unknown>>): Name[] {
  return Object.keys(table) as Name[]
}

const stages: readonly StageName[] = ['stage1', 'stage2', 'stage3', 'join', 'report']

export const nodeState = oneOf(namesOf(nodeTransitions))
export const sessionState = oneOf(namesOf(sessionTransitions))
export const reinstallState = oneOf(namesOf(reinstallTransitions))
export const stageName = oneOf(stages)
export const sequenceName = oneOf(['boot', 'reinstall'])

const address = Type.String({ maxLength: 64 })
const mac = Type.String({ maxLength: 17 })
const uuid = Type.String({ maxLength: 36 })
const serial = Type.String({ maxLength: 128 })
const profile = Type.String({ maxLength: 63 })
const label = Type.String({ maxLength: 63 })

const lists = {
  addresses: Type.Optional(Type.Array(address, { maxItems: 64 })),
  macs: Type.Optional(Type.Array(mac, { maxItems: 32 })),
}

/** A node to add. */
export const newNode = Type.Object(
  {
    name: Type.String({ maxLength: 253 }),
    ...lists,
    uuid: Type.Optional(uuid),
    serial: Type.Optional(serial),
    profile: Type.Optional(profile),
    labels: Type.Optional(Type.Record(Type.String(), label)),
  },
  { additionalProperties: false, title: 'NewNode' },
)

/** What to change of a node: null clears, a label of null is removed. */
export const nodeChanges = Type.Object(
  {
    ...lists,
    uuid: Type.Optional(Type.Union([uuid, Type.Null()])),
    serial: Type.Optional(Type.Union([serial, Type.Null()])),
    profile: Type.Optional(Type.Union([profile, Type.Null()])),
    labels: Type.Optional(Type.Record(Type.String(), Type.Union([label, Type.Null()]))),
  },
  { additionalProperties: false, title: 'NodeChanges' },
)

const labelText = Type.String({ pattern: '^[!-~]{1,127}$' })

/** Which nodes to list. */
export const nodeQuery = Type.Object(
  {
    state: Type.Optional(nodeState),
    label: Type.Optional(
      Type.Union([labelText, Type.Array(labelText, { maxItems: 10 })], {
        description: 'KEY=VALUE; given several times, each must be there.',
      }),
    ),
    profile: Type.Optional(profile),
    match: Type.Optional(
      Type.String({
        maxLength: 253,
        description: 'A pattern of names: * stands for any characters, ? for one.',
      }),
    ),
    reinstall: Type.Optional(reinstallState),
    ...pageFields,
  },
  { additionalProperties: false },
)

const sessionSummary = answers<SessionSummary>('SessionSummary')(
  Type.Object({
    id: Type.String(),
    state: sessionState,
    stage: stageName,
    sequence: sequenceName,
    startedAt: Type.String(),
    endedAt: textOrNull,
    local: Type.Boolean(),
    cause: textOrNull,
  }),
)

const secretKind = oneOf(secretKinds)

const secretView = answers<SecretView>('NodeSecret')(
  Type.Object({
    issued: Type.Boolean(),
    state: oneOf(['none', 'issued', 'revoked']),
    id: textOrNull,
    kind: Type.Union([secretKind, Type.Null()]),
    issuedAt: textOrNull,
    expiresAt: textOrNull,
    lastUsedAt: textOrNull,
    lastUsedFrom: textOrNull,
    next: Type.Union([
      Type.Object({ id: Type.String(), issuedAt: Type.String(), writtenAt: textOrNull, fault: textOrNull }),
      Type.Null(),
    ]),
  }),
)

const nodeFields = {
  name: Type.String(),
  state: nodeState,
  failureCause: textOrNull,
  profile: textOrNull,
  labels: Type.Record(Type.String(), Type.String()),
  addresses: Type.Array(Type.String()),
  macs: Type.Array(Type.String()),
  uuid: textOrNull,
  serial: textOrNull,
  reinstall: reinstallState,
  reinstallAttempts: Type.Integer(),
  campaign: Type.Union([
    Type.Object({ id: Type.String(), state: oneOf(['waiting', 'active']) }),
    Type.Null(),
  ]),
  armed: Type.Boolean(),
  secret: secretView,
  session: Type.Union([sessionSummary, Type.Null()]),
  leaving: Type.Union([leavingAnswer, Type.Null()], {
    description:
      'How it leaves its cluster to be reinstalled; null where it does not, has, or was taken back whole.',
  }),
  waiting: Type.Union([
    Type.Object(
      {
        request: Type.String(),
        source: Type.String(),
        since: Type.String(),
        at: Type.String(),
        times: Type.Integer(),
        until: Type.String(),
        why: Type.Union([Type.String(), Type.Null()], {
          description: 'What its join waits for; null where the server had no room.',
        }),
      },
      {
        description:
          'It asked and was told to come again; where the server had no room, who asked under its name had not proved it.',
      },
    ),
    Type.Null(),
  ]),
  pace: paceOrNull,
  looping,
  wireguardPublicKey: Type.Union([Type.String(), Type.Null()], {
    description: 'Of the tunnel that the join of its last successful boot set up; null where it set up none.',
  }),
  revision: Type.Integer(),
  createdAt: Type.String(),
  updatedAt: Type.String(),
}

/** A node. */
export const nodeAnswer = answers<NodeView>('Node')(Type.Object(nodeFields))

/** A node behind a change, with what the operator should know. */
export const changedNodeAnswer = answers<NodeView & { readonly warnings: readonly string[] }>('ChangedNode')(
  Type.Object({ ...nodeFields, warnings: Type.Array(Type.String()) }),
)

/** A page of nodes. */
export const nodesAnswer = answers<Page<NodeView, string>>('Nodes')(
  Type.Object({ items: Type.Array(nodeAnswer), next: textOrNull }),
)

/** How an enrolment secret is to be; nothing: static, and good for ever. */
export const secretWish = Type.Union(
  [
    Type.Null(),
    Type.Object(
      {
        kind: Type.Optional(secretKind),
        lifetimeSeconds: Type.Optional(
          Type.Integer({
            minimum: 60,
            maximum: 3650 * 86_400,
            description: 'How long it is good for, and each that takes its place by rotation.',
          }),
        ),
      },
      { additionalProperties: false },
    ),
  ],
  { title: 'SecretWish' },
)

/** An enrolment secret, shown once. */
export const secretAnswer = answers<IssuedSecret>('EnrolmentSecret')(
  Type.Object({
    secret: Type.String(),
    siteScript: Type.String(),
    kind: secretKind,
    expiresAt: textOrNull,
    warnings: Type.Array(Type.String()),
  }),
)
