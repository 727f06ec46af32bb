import type { Server as HttpsServer } from 'node:https'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { type AuditSettings, tendCheckpoints, tendRetention } from './audit.ts'
import type { BootContext } from './boot/context.ts'
import { expireSessions } from './boot/expire-sessions.ts'
import { tendReinstalls } from './fleet/campaigns.ts'
import type { CheckpointSigner } from './fleet/checkpoints.ts'
import { forgetAnswers } from './fleet/idempotency.ts'
import { finishRemovals } from './fleet/prune.ts'
import { tendRollouts } from './fleet/rollouts.ts'
import { warnOfExpiry } from './fleet/secrets.ts'
import { tidySignIns } from './fleet/sign-in.ts'
import type { SignInSettings } from './fleet/sign-in-settings.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import type { ServerTls } from './pki/tls.ts'
import { trimEnded } from './webhooks/deliver.ts'
import type { WebhookSender } from './webhooks/sender.ts'

/** What the server does by itself, and how often. `server.ts` starts the timers, a test calls each work. */
export interface Chore {
  readonly what: string
  readonly everyMilliseconds: number
  readonly work: () => Promise<unknown>
}

/** The parts that chores work on. */
export interface ChoreParts {
  readonly context: BootContext
  readonly artifacts: ArtifactStore
  readonly webhooks: WebhookSender
  readonly signIn: SignInSettings | undefined
  readonly checkpoints: CheckpointSigner
  readonly audit: AuditSettings
  readonly listeners: Listeners
  /** Goes over to what a cut-over of the root put in place; false where none was. */
  readonly followCutOver: () => Promise<boolean>
}

/** The listeners with their certificates as they are now; one that has none any more is to be closed. */
export type Listeners = readonly {
  readonly app: FastifyInstance
  readonly tls: () => ServerTls | undefined
}[]

/** What happens by itself, each thing with how often. */
export function chores(
  { context, artifacts, webhooks, signIn, checkpoints, audit, listeners, followCutOver }: ChoreParts,
  log: Logger,
): readonly Chore[] {
  return [
    { what: 'expiring sessions', everyMilliseconds: 30_000, work: () => expireSessions(context) },
    {
      what: 'finishing removals of artifacts',
      everyMilliseconds: 300_000,
      work: () => finishRemovals(context, artifacts),
    },
    {
      what: 'tending rollouts',
      everyMilliseconds: 30_000,
      work: () => tendRollouts(context),
    },
    { what: 'sending webhooks', everyMilliseconds: 1000, work: () => webhooks.work() },
    { what: 'trimming webhook deliveries', everyMilliseconds: 600_000, work: () => trimEnded(context) },
    {
      what: 'signing checkpoints',
      everyMilliseconds: 30_000,
      work: () => tendCheckpoints(context, checkpoints, audit),
    },
    {
      what: 'removing old events',
      everyMilliseconds: 600_000,
      work: () => tendRetention(context, checkpoints, audit, log),
    },
    { what: 'forgetting answers', everyMilliseconds: 600_000, work: () => forgetAnswers(context) },
    { what: 'ending sign-ins', everyMilliseconds: 600_000, work: () => tidySignIns(context, signIn) },
    {
      what: 'telling of secrets that run out',
      everyMilliseconds: 600_000,
      work: () => warnOfExpiry(context),
    },
    { what: 'tending reinstalls', everyMilliseconds: 10_000, work: () => tendReinstalls(context) },
    { what: 'writing refusals', everyMilliseconds: 10_000, work: () => context.refusals.flush() },
    {
      what: 'removing old uploads',
      everyMilliseconds: 3600_000,
      work: () => artifacts.tidy(context.clock()),
    },
    {
      what: 'renewing certificates',
      everyMilliseconds: 12 * 3600_000,
      work: async () => {
        for (const { tls, app } of listeners) await renew(tls(), app, context.clock(), log)
      },
    },
    {
      what: 'taking a new certificate from its files',
      everyMilliseconds: 10_000,
      work: async () => {
        for (const { tls, app } of listeners) await reload(tls(), app, context.clock(), log)
      },
    },
    {
      what: 'following a cut-over of the root',
      everyMilliseconds: 5000,
      work: async () => {
        if (!(await followCutOver())) return
        for (const { tls, app } of listeners) await secure(tls(), app)
      },
    },
  ]
}

/** Runs each chore in its time, until the answer is called; what fails is logged and tried again. */
export function startTimers(all: readonly Chore[], log: Logger): () => void {
  const timers = all.map(({ what, everyMilliseconds, work }) =>
    setInterval(() => {
      work().catch((error: unknown) => log.error({ err: error }, `${what} failed`))
    }, everyMilliseconds).unref(),
  )
  return () => timers.forEach(clearInterval)
}

type Tls = ServerTls | undefined

async function renew(tls: Tls, app: FastifyInstance, now: Date, log: Logger): Promise<void> {
  if (tls === undefined || !(await tls.renewIfDue(now))) return
  await secure(tls, app)
  log.info({ notAfter: tls.notAfter }, 'certificate renewed')
}

async function reload(tls: Tls, app: FastifyInstance, now: Date, log: Logger): Promise<void> {
  if (tls?.reload === undefined || !(await tls.reload(now))) return
  await secure(tls, app)
  log.info({ notAfter: tls.notAfter }, 'certificate taken from its files')
}

async function secure(tls: Tls, app: FastifyInstance): Promise<void> {
  if (tls === undefined) await app.close()
  else (app.server as unknown as HttpsServer).setSecureContext(tls.options()) // all listeners are https
}
