import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { BootContext } from './boot/context.ts'
import type { Config } from './config.ts'
import { buildOperatorListener } from './http/operator-listener.ts'
import type { SignIn } from './http/sign-in/options.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import { ownFingerprints } from './ipxe/own.ts'
import type { ServedBinaries } from './ipxe/served.ts'
import { viewsOf } from './ipxe/view.ts'
import type { ProcessMetrics } from './metrics/counts.ts'
import { countedBy } from './open-crew.ts'
import { httpLimitsOf, operatorConnections } from './open-limits.ts'
import { openMetrics } from './open-metrics.ts'
import type { Replica } from './open-replica.ts'
import type { OpenRoots } from './open-roots.ts'
import type { CheckpointSigner } from './pki/checkpoint-key.ts'
import { type ClientAuthority, createClientAuthorities, openClientAuthority } from './pki/client-authority.ts'
import { keyOfRequest } from './pki/x509.ts'
import type { Crew } from './workers/crew.ts'

/** A filesystem of 8 GiB over a link of 20 Mbit/s. */
const uploadTimeoutSeconds = 3600

/** The CAs of client certificates: one for operators, one for nodes. */
export interface ClientAuthorities {
  readonly operators: ClientAuthority
  readonly nodes: ClientAuthority
  /** For listeners, which trust each for its own kind. */
  readonly certificates: { readonly operator: string; readonly node: string }
}

/** Opens them; a data folder of an older version has none yet, and gets them. */
export async function openClientAuthorities(dataDir: string, now: Date): Promise<ClientAuthorities> {
  await createClientAuthorities(dataDir, now)
  const operators = openClientAuthority(dataDir, 'operator')
  const nodes = openClientAuthority(dataDir, 'node')
  return { operators, nodes, certificates: { operator: operators.certificate, node: nodes.certificate } }
}

/** What the operator listener shows and changes. */
export interface OperatorListenerParts {
  readonly context: BootContext
  readonly counts: ProcessMetrics
  readonly roots: OpenRoots
  readonly authorities: ClientAuthorities
  readonly artifacts: ArtifactStore
  readonly ipxe: ServedBinaries
  readonly signIn: SignIn | undefined
  readonly checkpoints: CheckpointSigner
  readonly replica: Pick<Replica, 'leads' | 'stopping'>
  /** Whose counts are on its page too. */
  readonly crew: Crew | undefined
}

/** Builds the operator listener; it does not listen yet. */
export function openOperator(
  { config, log }: { readonly config: Config; readonly log: Logger },
  parts: OperatorListenerParts,
): FastifyInstance {
  const { context, counts, roots, authorities, artifacts, ipxe, signIn, checkpoints, replica, crew } = parts
  const { requestTimeoutSeconds, idleTimeoutSeconds, maxConnections, trustedProxies } = config
  const certificates = (): { listener: string; notAfter: Date }[] => [
    { listener: 'boot', notAfter: roots.main.tls.notAfter },
    { listener: 'operator', notAfter: roots.operatorTls.notAfter },
  ]
  const others = crew === undefined ? {} : { others: countedBy(crew) }
  const { leads, stopping } = replica
  return buildOperatorListener(context, {
    ...{ log, trustedProxies, artifacts, checkpoints, stopping, certificates },
    tls: roots.operatorTls.options(),
    issueCodeSigning: async ({ publisher, request, now }) =>
      roots.signing().issueCodeSigning({ publisher, key: await keyOfRequest(request), now }),
    issueClientCertificate: authorities.operators.issue,
    issueNodeCertificate: authorities.nodes.issue,
    ...(signIn === undefined ? {} : { signIn }),
    nextRoot: roots.next,
    ipxe: async () => viewsOf(await ipxe.listing(), ownFingerprints(config.dataDir)),
    metrics: openMetrics({ config, context, own: counts, ...others, leads, certificates }),
    connections: operatorConnections(config),
    limits: {
      ...{ requestTimeoutSeconds, idleTimeoutSeconds, maxConnections, uploadTimeoutSeconds },
      ...httpLimitsOf(config),
      maxBodyBytes: config.maxOperatorBodyBytes,
    },
  })
}
