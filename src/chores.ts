import type { Logger } from 'pino'
import { type AuditSettings, tendCheckpoints, tendCopies, tendRetention } from './audit.ts'
import type { BootContext } from './boot/context.ts'
import { expireSessions } from './boot/expire-sessions.ts'
import { tendExtensionKeys } from './boot/extension-keys.ts'
import { tendCredentials } from './boot/remove-credentials.ts'
import { tendReinstalls } from './fleet/campaigns.ts'
import type { CheckpointSigner } from './fleet/checkpoints.ts'
import { forgetAnswers } from './fleet/idempotency.ts'
import { tendIdentityKeys } from './fleet/identity.ts'
import { tendPaces } from './fleet/paces.ts'
import { finishRemovals } from './fleet/prune.ts'
import { tendRollouts } from './fleet/rollouts.ts'
import { warnOfExpiry } from './fleet/secrets.ts'
import { tidySignIns } from './fleet/sign-in.ts'
import type { SignInSettings } from './fleet/sign-in-settings.ts'
import { forgetOldSessions } from './fleet/timeline-retention.ts'
import { learnUsualTimes } from './fleet/usual-times.ts'
import type { ArtifactStore } from './images/artifacts.ts'
import { tendLeavings } from './leaving/tend.ts'
import type { Listener } from './listen.ts'
import type { TraceExporter } from './traces/exporter.ts'
import { trimEnded } from './webhooks/deliver.ts'
import type { WebhookSender } from './webhooks/sender.ts'

/** What the server does by itself, and how often. `server.ts` starts the timers, a test calls each work. */
export interface Chore {
  readonly what: string
  readonly everyMilliseconds: number
  /** Of all servers on a database one does it, the leader; what is left out each does for itself. */
  readonly once?: true
  readonly work: () => Promise<unknown>
}

/** The parts that chores work on. */
export interface ChoreParts {
  readonly context: BootContext
  readonly artifacts: ArtifactStore
  readonly webhooks: WebhookSender
  readonly traces: TraceExporter | undefined
  readonly signIn: SignInSettings | undefined
  readonly checkpoints: CheckpointSigner
  readonly audit: AuditSettings & {
    /** How long boot sessions are kept; 0: for ever. */
    readonly timelineRetentionDays: number
  }
  readonly listeners: readonly Listener[]
  /** The key of TLS session tickets changes by the clock; true: the listeners must be told. */
  readonly tickets: { turn(): Promise<boolean> }
  /** Goes over to what a cut-over of the root put in place; false where none was. */
  readonly followCutOver: () => Promise<boolean>
}

/** What happens by itself, each thing with how often. */
export function chores(
  {
    context,
    artifacts,
    webhooks,
    traces,
    signIn,
    checkpoints,
    audit,
    listeners,
    tickets,
    followCutOver,
  }: ChoreParts,
  log: Logger,
): readonly Chore[] {
  return [
    { what: 'expiring sessions', everyMilliseconds: 30_000, once: true, work: () => expireSessions(context) },
    ...paceChores(context),
    {
      what: 'finishing removals of artifacts',
      everyMilliseconds: 300_000,
      once: true,
      work: () => finishRemovals(context, artifacts),
    },
    {
      what: 'tending rollouts',
      everyMilliseconds: 30_000,
      once: true,
      work: () => tendRollouts(context),
    },
    { what: 'sending webhooks', everyMilliseconds: 1000, once: true, work: () => webhooks.work() },
    {
      what: 'exporting traces',
      everyMilliseconds: 2000,
      once: true,
      work: async () => traces?.work(),
    },
    {
      what: 'trimming webhook deliveries',
      everyMilliseconds: 600_000,
      once: true,
      work: () => trimEnded(context),
    },
    {
      what: 'renewing the keys of extension requests',
      everyMilliseconds: 600_000,
      once: true,
      work: () => tendExtensionKeys(context),
    },
    {
      what: 'signing checkpoints',
      everyMilliseconds: 30_000,
      once: true,
      work: () => tendCheckpoints(context, checkpoints, audit),
    },
    {
      what: 'copying checkpoints',
      everyMilliseconds: 30_000,
      work: () => tendCopies(context, audit),
    },
    {
      what: 'removing old events',
      everyMilliseconds: 600_000,
      once: true,
      work: () => tendRetention(context, checkpoints, audit, log),
    },
    {
      what: 'forgetting old boots',
      everyMilliseconds: 600_000,
      once: true,
      work: () => forgetOldSessions(context, audit.timelineRetentionDays),
    },
    {
      what: 'forgetting answers',
      everyMilliseconds: 600_000,
      once: true,
      work: () => forgetAnswers(context),
    },
    {
      what: 'tending the keys and proofs of identities',
      everyMilliseconds: 60_000,
      once: true,
      work: () => tendIdentityKeys(context),
    },
    {
      what: 'ending sign-ins',
      everyMilliseconds: 600_000,
      once: true,
      work: () => tidySignIns(context, signIn),
    },
    {
      what: 'telling of secrets that run out',
      everyMilliseconds: 600_000,
      once: true,
      work: () => warnOfExpiry(context),
    },
    {
      what: 'tending reinstalls',
      everyMilliseconds: 10_000,
      once: true,
      work: () => tendReinstalls(context),
    },
    {
      what: 'removing credentials of joins',
      everyMilliseconds: 5000,
      once: true,
      work: () => tendCredentials(context),
    },
    {
      what: 'taking nodes out of their clusters',
      everyMilliseconds: 1000,
      once: true,
      work: () => tendLeavings(context),
    },
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
        for (const listener of listeners) await renew(listener, context.clock(), log)
      },
    },
    {
      what: 'taking a new certificate from its files',
      everyMilliseconds: 10_000,
      work: async () => {
        for (const listener of listeners) await reload(listener, context.clock(), log)
      },
    },
    {
      what: 'following a cut-over of the root',
      everyMilliseconds: 5000,
      work: async () => {
        if (await followCutOver()) await secureAll(listeners)
      },
    },
    {
      what: 'changing the key of TLS session tickets',
      everyMilliseconds: 30_000,
      work: async () => {
        if (await tickets.turn()) await secureAll(listeners)
      },
    },
  ]
}

/** What boots that are under way are told to be, and what is usual of those that are over. */
function paceChores(context: BootContext): readonly Chore[] {
  return [
    {
      what: 'looking at the pace of boots',
      everyMilliseconds: 15_000,
      once: true,
      work: () => tendPaces(context),
    },
    {
      what: 'learning usual times',
      everyMilliseconds: 60_000,
      once: true,
      work: () => learnUsualTimes(context),
    },
  ]
}

/**
 * Runs each chore in its time, until the answer is called, which resolves when those under way are over; what fails is logged and
 * tried again. One that takes longer than its time is not begun a second time beside itself.
 */
export function startTimers(
  all: readonly Chore[],
  log: Pick<Logger, 'error'>,
  leads: () => boolean,
): () => Promise<void> {
  const running = new Map<Chore, Promise<void>>()
  const timers = all.map((chore) =>
    setInterval(() => {
      if (running.has(chore) || (chore.once === true && !leads())) return
      const work = chore
        .work()
        .catch((error: unknown) => log.error({ err: error }, `${chore.what} failed`))
        .then(() => void running.delete(chore))
      running.set(chore, work)
    }, chore.everyMilliseconds).unref(),
  )
  return async () => {
    timers.forEach(clearInterval)
    await Promise.all(running.values())
  }
}

async function renew(listener: Listener, now: Date, log: Logger): Promise<void> {
  const tls = listener.tls()
  if (tls === undefined || !(await tls.renewIfDue(now))) return
  await listener.secure()
  log.info({ notAfter: tls.notAfter }, 'certificate renewed')
}

async function reload(listener: Listener, now: Date, log: Logger): Promise<void> {
  const tls = listener.tls()
  if (tls?.reload === undefined || !(await tls.reload(now))) return
  await listener.secure()
  log.info({ notAfter: tls.notAfter }, 'certificate taken from its files')
}

async function secureAll(listeners: readonly Listener[]): Promise<void> {
  for (const listener of listeners) await listener.secure()
}
