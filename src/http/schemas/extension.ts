import { extensionLimits, mediaTypePattern, operationPattern } from '../../domain/extension.ts'
import Type from '../../domain/schema.ts'
import { maxUrlCharacters } from '../../domain/webhook.ts'
import type { ExtensionKeysView, ExtensionKeyView, ExtensionView } from '../../fleet/extension-view.ts'
import { answers, type Page, textOrNull } from './answers.ts'

const pem = Type.Union([Type.String({ maxLength: 32 * 1024 }), Type.Null()])
const { timeoutSeconds, maxAnswerBytes } = extensionLimits

/** What an extension is set to. */
export const extensionBody = Type.Object(
  {
    url: Type.String({ maxLength: maxUrlCharacters }),
    timeoutSeconds: Type.Optional(
      Type.Integer({ minimum: timeoutSeconds.least, maximum: timeoutSeconds.most }),
    ),
    maxAnswerBytes: Type.Optional(
      Type.Integer({ minimum: maxAnswerBytes.least, maximum: maxAnswerBytes.most }),
    ),
    answerTypes: Type.Optional(
      Type.Array(Type.String({ pattern: mediaTypePattern }), { minItems: 1, maxItems: 16 }),
    ),
    ca: Type.Optional(pem),
    clientCertificate: Type.Optional(pem),
    clientKey: Type.Optional(pem),
  },
  { additionalProperties: false },
)

/** An extension's path. */
export const extensionPath = Type.Object({ operation: Type.String({ pattern: operationPattern }) })

/** Whether the keys before are withdrawn. */
export const keyRotation = Type.Union([
  Type.Null(),
  Type.Object({ atOnce: Type.Optional(Type.Boolean()) }, { additionalProperties: false }),
])

/** An extension, without its client key. */
export const extensionAnswer = answers<ExtensionView>()(
  Type.Object({
    operation: Type.String(),
    revision: Type.Integer(),
    url: Type.String(),
    unreadable: Type.Boolean(),
    timeoutSeconds: Type.Integer(),
    maxAnswerBytes: Type.Integer(),
    answerTypes: Type.Array(Type.String()),
    ca: textOrNull,
    clientCertificate: textOrNull,
    clientKey: Type.Union([Type.Literal('***'), Type.Null()]),
    createdAt: Type.String(),
    createdBy: Type.String(),
    updatedAt: Type.String(),
  }),
)

/** Every extension. */
export const extensionsAnswer = answers<Page<ExtensionView, string>>()(
  Type.Object({ items: Type.Array(extensionAnswer), next: textOrNull }),
)

const key = answers<ExtensionKeyView>()(
  Type.Object({
    kid: Type.String(),
    madeAt: Type.String(),
    signsFrom: Type.String(),
    endsAt: textOrNull,
    signing: Type.Boolean(),
    jwk: Type.Record(Type.String(), Type.Unknown()),
  }),
)

/** The keys that sign what services are asked. */
export const extensionKeysAnswer = answers<ExtensionKeysView>()(
  Type.Object({ issuer: Type.String(), jwksUrl: Type.String(), items: Type.Array(key) }),
)
