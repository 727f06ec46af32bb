import { publisherNamePattern } from '../../domain/publisher.ts'
import Type from '../../domain/schema.ts'
import type { PublisherView, RegisteredPublisher, RevokedPublisher } from '../../fleet/publishers.ts'
import { answers, type Page, textOrNull } from './answers.ts'
import { proposalAnswer } from './channel.ts'

const name = Type.String({ pattern: publisherNamePattern })
const pem = Type.String({ maxLength: 32 * 1024 })

/** A publisher to register, with certificates of its own. */
export const newPublisher = Type.Object(
  { name, certificates: pem },
  { additionalProperties: false, title: 'NewPublisher' },
)

/** A publisher to make a certificate for. */
export const publisherToIssue = Type.Object(
  { name, request: pem },
  { additionalProperties: false, title: 'PublisherToIssue' },
)

/** A publisher's path. */
export const publisherPath = Type.Object({ name })

const fields = {
  name: Type.String(),
  fingerprint: Type.String(),
  subject: Type.String(),
  expiresAt: Type.String(),
  certificates: Type.String(),
  createdAt: Type.String(),
  createdBy: Type.String(),
  revokedAt: textOrNull,
  revokedBy: textOrNull,
}

/** A publisher. */
export const publisherAnswer = answers<PublisherView>('Publisher')(Type.Object(fields))

/** A publisher as registered, or as proposed. */
export const registeredAnswer = answers<RegisteredPublisher>('RegisteredPublisher')(
  Type.Unsafe<RegisteredPublisher>(
    Type.Object({
      publisher: Type.Union([publisherAnswer, Type.Null()]),
      proposal: Type.Union([proposalAnswer, Type.Null()]),
    }),
  ),
)

/** Every publisher. */
export const publishersAnswer = answers<Page<PublisherView, string>>('Publishers')(
  Type.Object({ items: Type.Array(publisherAnswer), next: textOrNull }),
)

/** A publisher as revoked. */
export const revokedPublisherAnswer = answers<RevokedPublisher>('RevokedPublisher')(
  Type.Object({ ...fields, onlySigned: Type.Array(Type.String()) }),
)
