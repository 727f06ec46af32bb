import type { FastifyPluginCallback } from 'fastify'
import { artifactRoutes } from './routes/artifacts.ts'
import type { OperatorApp, OperatorParts } from './routes/operator-app.ts'
import { autoApprovalRoutes, factRoutes } from './routes/operator-auto-approvals.ts'
import { channelRoutes, proposalRoutes, rolloutRoutes } from './routes/operator-channels.ts'
import { chainRoutes, checkpointRoutes } from './routes/operator-checkpoints.ts'
import { pendingRoutes } from './routes/operator-enrolment.ts'
import { eventStreamRoutes } from './routes/operator-event-stream.ts'
import { eventRoutes } from './routes/operator-events.ts'
import { extensionRoutes } from './routes/operator-extensions.ts'
import { fleetRoutes } from './routes/operator-fleet.ts'
import { identityRoutes, loginRoutes } from './routes/operator-identity.ts'
import { imageTestRoutes, pruneRoutes } from './routes/operator-image-tests.ts'
import { imageRoutes } from './routes/operator-images.ts'
import { ipxeListRoutes } from './routes/operator-ipxe.ts'
import { leavingRoutes } from './routes/operator-leaving.ts'
import { mediaRoutes } from './routes/operator-media.ts'
import { targetRoutes } from './routes/operator-metrics.ts'
import { nodeCertificateRoutes } from './routes/operator-node-certificates.ts'
import { nodeIdentityRoutes } from './routes/operator-node-identity.ts'
import { nodeLogRoutes } from './routes/operator-node-logs.ts'
import { nodeRoutes } from './routes/operator-nodes.ts'
import { openApiRoutes } from './routes/operator-openapi.ts'
import { overviewRoutes } from './routes/operator-overview.ts'
import { profileRoutes } from './routes/operator-profiles.ts'
import { publisherRoutes } from './routes/operator-publishers.ts'
import { reinstallRoutes } from './routes/operator-reinstalls.ts'
import { rootRoutes } from './routes/operator-roots.ts'
import { statusRoutes } from './routes/operator-status.ts'
import { operatorTokenRoutes } from './routes/operator-tokens.ts'
import { webhookRoutes } from './routes/operator-webhooks.ts'

/** The routes of the operator API, all of them on one screen. */
export function apiRoutes(parts: OperatorParts): FastifyPluginCallback {
  return (app, _options, done) => {
    const api = app as unknown as OperatorApp // a child of ours
    openApiRoutes(api)
    overviewRoutes(api, parts)
    nodeRoutes(api, parts)
    nodeLogRoutes(api, parts)
    nodeCertificateRoutes(api, parts)
    mediaRoutes(api, parts)
    pendingRoutes(api, parts)
    autoApprovalRoutes(api, parts)
    reinstallRoutes(api, parts)
    leavingRoutes(api, parts)
    factRoutes(api, parts)
    imageRoutes(api, parts)
    imageTestRoutes(api, parts)
    pruneRoutes(api, parts)
    publisherRoutes(api, parts)
    profileRoutes(api, parts)
    fleetRoutes(api, parts)
    eventRoutes(api, parts)
    checkpointRoutes(api, parts)
    nodeIdentityRoutes(api, parts)
    chainRoutes(api, parts)
    eventStreamRoutes(api, parts)
    operatorTokenRoutes(api, parts)
    identityRoutes(api, parts)
    loginRoutes(api, parts)
    channelRoutes(api, parts)
    proposalRoutes(api, parts)
    rolloutRoutes(api, parts)
    webhookRoutes(api, parts)
    extensionRoutes(api, parts)
    statusRoutes(api, parts)
    targetRoutes(api, parts)
    ipxeListRoutes(api, parts)
    rootRoutes(api, parts)
    api.register((uploads, _nested, ready) => {
      artifactRoutes(uploads as unknown as OperatorApp, parts)
      ready()
    })
    done()
  }
}
