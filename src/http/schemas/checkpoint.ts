import type { ChainPlace } from '../../domain/checkpoint.ts'
import type { ChainEnds, ChainedEvent } from '../../domain/event.ts'
import Type from '../../domain/schema.ts'
import type { CheckpointKeySet, CheckpointView, CheckpointWithPlaces } from '../../fleet/checkpoints.ts'
import type { ChainedPage, PositionsView } from '../../fleet/event-view.ts'
import { answers, anyObject, limit, type Page, textOrNull } from './answers.ts'
import { eventFields } from './event.ts'

/** Names of chains: as `word`, which node names and the two common chains are made of. */
const chainName = Type.String({ pattern: '^[!-~]{1,300}$' })
const seq = Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })

const fields = {
  seq: Type.Integer(),
  at: Type.String(),
  kid: Type.String(),
  chains: Type.Integer(),
  events: Type.Integer(),
  digest: Type.String(),
  jws: Type.String(),
}

const place = answers<ChainPlace>('ChainPlace')(
  Type.Object({
    chain: Type.String(),
    baseSeq: Type.Integer(),
    seq: Type.Integer(),
    hash: Type.String(),
  }),
)

/** A checkpoint with where every chain was. */
export const checkpointAnswer = answers<CheckpointWithPlaces>('Checkpoint')(
  Type.Object({ ...fields, places: Type.Union([Type.Array(place), Type.Null()]) }),
)

/** Which checkpoint. */
export const checkpointPath = Type.Object({
  seq: Type.String({ pattern: '^([1-9]\\d{0,8}|last)$', description: 'Its number, or `last`.' }),
})

/** Which checkpoints to list. */
export const checkpointQuery = Type.Object(
  { before: Type.Optional(seq), limit: Type.Optional(limit) },
  { additionalProperties: false },
)

/** A page of checkpoints, the newest first. */
export const checkpointsAnswer = answers<Page<CheckpointView, number>>('Checkpoints')(
  Type.Object({
    items: Type.Array(Type.Object(fields)),
    next: Type.Union([Type.Integer(), Type.Null()]),
  }),
)

/** The public keys. */
export const checkpointKeysAnswer = answers<CheckpointKeySet>('CheckpointKeys')(
  Type.Object({ keys: Type.Array(anyObject) }),
)

/** Which chains to list. */
export const chainQuery = Type.Object(
  { after: Type.Optional(chainName), name: Type.Optional(chainName), limit: Type.Optional(limit) },
  { additionalProperties: false },
)

/** A page of chains. */
export const chainsAnswer = answers<Page<ChainEnds, string>>('Chains')(
  Type.Object({
    items: Type.Array(
      Type.Object({
        name: Type.String(),
        baseSeq: Type.Integer(),
        baseHash: Type.String(),
        headSeq: Type.Integer(),
        headHash: Type.String(),
      }),
    ),
    next: textOrNull,
  }),
)

/** Which events to list, chain by chain: from behind `after` in chain `afterChain`. */
export const chainedQuery = Type.Object(
  {
    afterChain: Type.Optional(chainName),
    after: Type.Optional(seq),
    chain: Type.Optional(chainName),
    limit: Type.Optional(limit),
  },
  { additionalProperties: false },
)

const chainedEvent = answers<ChainedEvent>('ChainedEvent')(
  Type.Object({ ...eventFields, detail: Type.String(), prevHash: Type.String() }),
)

/** Events as their chains hold them. */
export const chainedAnswer = answers<ChainedPage>('ChainedEvents')(
  Type.Object({
    items: Type.Array(chainedEvent),
    next: Type.Union([Type.Object({ chain: Type.String(), seq: Type.Integer() }), Type.Null()]),
  }),
)

/** Which single events to show. */
export const positionsBody = Type.Object(
  {
    positions: Type.Array(Type.Object({ chain: chainName, seq }, { additionalProperties: false }), {
      minItems: 1,
      maxItems: 500,
    }),
  },
  { additionalProperties: false },
)

/** Those of them that are there. */
export const positionsAnswer = answers<PositionsView>('EventsAtPositions')(
  Type.Object({ items: Type.Array(chainedEvent) }),
)
