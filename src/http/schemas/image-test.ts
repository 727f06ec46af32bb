import Type from 'typebox'
import type { ImageTestView } from '../../fleet/image-tests.ts'
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
