import Type from '../../domain/schema.ts'
import { type ErrorCode, errorCodes } from '../../errors.ts'
import type { Problem } from '../problem.ts'
import { answers, oneOf } from './answers.ts'

const codes = Object.keys(errorCodes) as ErrorCode[] // the table's own keys

/** A problem document (RFC 9457). */
export const problemSchema = answers<Problem>()(
  Type.Object({
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: oneOf(codes),
    hint: Type.Optional(Type.String()),
    requestId: Type.Optional(Type.String()),
  }),
)
