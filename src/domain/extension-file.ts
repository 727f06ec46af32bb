import { extensionLimits, mediaTypePattern, operationPattern } from './extension.ts'
import Type, { type TSchema } from './schema.ts'
import { secretSources, valueSources } from './secret-source.ts'
import { maxUrlCharacters } from './webhook.ts'

const { timeoutSeconds, maxAnswerBytes } = extensionLimits

/** PEM in a file of its own, or in place. */
const pem = (description: string, sources: readonly TSchema[] = valueSources): TSchema =>
  Type.Union([Type.String({ maxLength: 32 * 1024 }), ...sources, Type.Null()], { description })

/** Values of an extension that may come from elsewhere: a plan shows them hidden, or by their fingerprints. */
export const extensionSources: Readonly<Record<string, { readonly pattern?: string }>> = {
  url: { pattern: '^https?://[!-~]+$' },
  ca: {},
  clientCertificate: {},
  clientKey: {},
}

/** The fields of an extension in a file. What is left out has its default. */
export const extensionFields = {
  operation: Type.String({
    pattern: operationPattern,
    description: 'The name that nodes ask for: a-z, 0-9 and "_".',
  }),
  url: Type.Union([Type.String({ maxLength: maxUrlCharacters }), ...valueSources], {
    description:
      'Where the service is. What in it may be a secret is shown as ***, which keeps what is stored.',
  }),
  timeoutSeconds: Type.Optional(
    Type.Integer({
      minimum: timeoutSeconds.least,
      maximum: timeoutSeconds.most,
      description: 'For the whole answer.',
    }),
  ),
  maxAnswerBytes: Type.Optional(
    Type.Integer({
      minimum: maxAnswerBytes.least,
      maximum: maxAnswerBytes.most,
      description: 'How large an answer may be.',
    }),
  ),
  answerTypes: Type.Optional(
    Type.Array(Type.String({ pattern: mediaTypePattern }), {
      minItems: 1,
      maxItems: 16,
      description: 'Media types that an answer may be of.',
    }),
  ),
  ca: Type.Optional(pem("PEM: the only roots the service is believed by; else the system's.")),
  clientCertificate: Type.Optional(pem('PEM: what we show the service.')),
  clientKey: Type.Optional(pem('PEM: the key of clientCertificate; sealed, and never shown.', secretSources)),
}

/** An extension in a file of its own, for `pawl extension apply`. */
export const extensionFileSchema = Type.Object(extensionFields, { additionalProperties: false })
