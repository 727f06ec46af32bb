import Type from '../../domain/schema.ts'
import type { ImageTestView } from '../../fleet/image-tests.ts'
import type { PrunePlan } from '../../fleet/prune.ts'
import { answers, anyObject, oneOf, type Page, textOrNull } from './answers.ts'
import { stageName } from './node.ts'

const closed = { additionalProperties: false } as const
const ref = Type.String({ maxLength: 127 }) // name@version

/** What `pawl image test` tells. Each field is flat and bounded: what comes in is stored and shown as it is. */
const newDetail = Type.Object(
  {
    failure: Type.Optional(Type.Union([Type.String({ maxLength: 2500 }), Type.Null()])),
    seconds: Type.Optional(Type.Number({ minimum: 0 })),
    stages: Type.Optional(
      Type.Array(Type.Object({ stage: stageName, seconds: Type.Number({ minimum: 0 }) }, closed), {
        maxItems: 10,
      }),
    ),
    console: Type.Optional(Type.Array(Type.String({ maxLength: 200 }), { maxItems: 40 })),
    as: Type.Optional(oneOf(['stage2', 'stage3'])),
    with: Type.Optional(ref),
  },
  closed,
)

/** How a test boot went. */
export const newImageTest = Type.Object(
  { passed: Type.Boolean(), detail: newDetail },
  { ...closed, title: 'NewImageTest' },
)

/** A test boot. */
export const imageTestAnswer = answers<ImageTestView>('ImageTest')(
  Type.Object({
    id: Type.String(),
    passed: Type.Boolean(),
    detail: anyObject,
    by: Type.String(),
    at: Type.String(),
  }),
)

/** Test boots, the latest first. */
export const imageTestsAnswer = answers<Page<ImageTestView, string>>('ImageTests')(
  Type.Object({ items: Type.Array(imageTestAnswer), next: textOrNull }),
)

/** What to keep, and whether to say only what would go. */
export const pruneRequest = Type.Object(
  {
    keep: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
    olderThanSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 * 365 * 86_400 })),
    /** Without it, it is only said what would go. */
    apply: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false, title: 'PruneRequest' },
)

/** What is removed, or would be. */
export const pruneAnswer = answers<PrunePlan>('PrunePlan')(
  Type.Object({
    versions: Type.Array(Type.Object({ ref: Type.String(), createdAt: Type.String() })),
    artifacts: Type.Array(Type.Object({ digest: Type.String(), size: Type.Integer() })),
    bytes: Type.Integer(),
    used: Type.Array(Type.Object({ ref: Type.String(), by: Type.String() })),
    applied: Type.Boolean(),
  }),
)
