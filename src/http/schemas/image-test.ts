import Type from 'typebox'
import type { ImageTestView } from '../../fleet/image-tests.ts'
import type { PrunePlan } from '../../fleet/prune.ts'
import { answers, anyObject, type Page } from './answers.ts'

/** How a test boot went. */
export const newImageTest = Type.Object(
  { passed: Type.Boolean(), detail: anyObject },
  { additionalProperties: false },
)

/** A test boot. */
export const imageTestAnswer = answers<ImageTestView>()(
  Type.Object({
    id: Type.String(),
    passed: Type.Boolean(),
    detail: anyObject,
    by: Type.String(),
    at: Type.String(),
  }),
)

/** Test boots, the latest first. */
export const imageTestsAnswer = answers<Page<ImageTestView, never>>()(
  Type.Object({ items: Type.Array(imageTestAnswer), next: Type.Null() }),
)

/** What to keep, and whether to say only what would go. */
export const pruneRequest = Type.Object(
  {
    keep: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
    olderThanSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 * 365 * 86_400 })),
    dryRun: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)

/** What is removed, or would be. */
export const pruneAnswer = answers<PrunePlan>()(
  Type.Object({
    versions: Type.Array(Type.Object({ ref: Type.String(), createdAt: Type.String() })),
    artifacts: Type.Array(Type.Object({ digest: Type.String(), size: Type.Integer() })),
    bytes: Type.Integer(),
    used: Type.Array(Type.Object({ ref: Type.String(), by: Type.String() })),
    applied: Type.Boolean(),
  }),
)
