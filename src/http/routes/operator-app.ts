import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type {} from '@fastify/swagger' // the fields of a schema that only the OpenAPI document shows
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import type { BootContext } from '../../boot/context.ts'
import Type from '../../domain/schema.ts'
import type { CheckpointSigner } from '../../fleet/checkpoints.ts'
import type { ClientCertificateIssuer } from '../../fleet/operator-certificates.ts'
import type { CodeSigningIssuer } from '../../fleet/publishers.ts'
import type { NextRoot } from '../../fleet/roots.ts'
import type { ArtifactStore } from '../../images/artifacts.ts'
import type { IpxeBinaries } from '../../ipxe/view.ts'
import type { EventStreams } from '../event-streams.ts'
import type { OperatorAuth } from '../operator-auth.ts'
import { noBody, nothing, word } from '../schemas/answers.ts'
import type { SignIn } from '../sign-in/options.ts'
import type { MetricsAnswers } from './operator-metrics.ts'

/** The operator listener while its routes are added: handlers take their types from the schemas. */
export type OperatorApp = FastifyInstance<
  Server,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

/** What the routes of operators use. */
export interface OperatorParts {
  readonly context: BootContext
  readonly auth: OperatorAuth
  readonly artifacts: ArtifactStore
  readonly issueCodeSigning: CodeSigningIssuer
  /** Signs checkpoints of the event log. */
  readonly checkpoints: CheckpointSigner
  readonly eventStreams: EventStreams
  readonly issueClientCertificate: ClientCertificateIssuer
  readonly issueNodeCertificate: ClientCertificateIssuer
  readonly log: Logger
  /** The listeners' certificates, as they are now. */
  readonly certificates: () => readonly { readonly listener: string; readonly notAfter: Date }[]
  /** The root that was made to take the place of the one there is; undefined where there is none. */
  readonly nextRoot: () => NextRoot | undefined
  /** The iPXE binaries of the data folder, as they are now. */
  readonly ipxe: () => Promise<IpxeBinaries>
  /** What `/metrics` answers. */
  readonly metrics: MetricsAnswers
  /** Whether the server was told to stop, and serves on only until balancers have noticed. */
  readonly stopping: () => boolean
  /** Left out where no provider is set up. */
  readonly signIn?: SignIn | undefined
  /** For routes that move or read gigabytes. */
  readonly longTimeoutSeconds: number
}

/** What a route adds that may take long: its own limit, for the answer and for the silence on its connection until then. */
export function long({ longTimeoutSeconds }: OperatorParts): {
  handlerTimeout: number
  onRequest: (request: FastifyRequest) => Promise<void>
} {
  const milliseconds = longTimeoutSeconds * 1000
  return {
    handlerTimeout: milliseconds,
    onRequest: async ({ raw }) => {
      // `inject` has no socket of node:net.
      if (raw.socket instanceof Socket) raw.socket.setTimeout(milliseconds)
    },
  }
}

/** The path of what has a name. */
export const named = Type.Object({ name: word })

/** A route that reads and takes no query: one that is sent is refused, not ignored. */
export const bare = { querystring: nothing }

/** A route that changes something and takes neither a body nor a query. */
export const bodiless = { body: noBody, querystring: nothing }

/** The parts of the API, in the order the OpenAPI document has them, with what each is about. */
export const apiTags = {
  nodes: 'Machines: what they are, what they boot, how their boots went.',
  reinstalls: 'Nodes made anew, one or many at a time.',
  enrolment: 'Unknown machines that ask to become nodes.',
  images: 'Published image versions, their signatures and tests.',
  artifacts: 'The bytes that images are made of, by digest.',
  channels: 'Named pointers to versions of an image.',
  rollouts: 'A channel moved in waves.',
  proposals: 'Changes that wait for a second person.',
  publishers: 'Who may sign images.',
  profiles: 'What a kind of node boots.',
  fleet: 'Nodes, profiles and channels as files describe them.',
  webhooks: 'Events sent to receivers.',
  extensions: 'Services that booting nodes may ask.',
  events: 'The record of everything that happened.',
  operators: 'Who may ask, and who is asking.',
  health: 'What monitors and tools ask.',
} as const

/**
 * What each route says about itself in `schema`: the part it belongs to, its name (a verb and a noun, used once) and one
 * sentence. The OpenAPI document is made of these.
 */
export function op<Tag extends keyof typeof apiTags>(
  tag: Tag,
  operationId: string,
  summary: string,
): { readonly tags: readonly [Tag]; readonly operationId: string; readonly summary: string } {
  return { tags: [tag], operationId, summary }
}
