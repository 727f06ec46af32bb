import type { Test } from 'tap'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import type { BackendCall, JoinMeter } from '../../src/domain/join-credential.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { isPawlError } from '../../src/errors.ts'
import { mapSecrets } from '../../src/fleet/profile-secrets.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { openBrokers } from '../../src/joining/brokers.ts'
import { type CallLimits, openBackendCalls } from '../../src/joining/calls.ts'
import { type Joining, openBackground } from '../../src/joining/joining.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import type { Queries } from '../../src/storage/database.ts'
import { storeDemoFleet } from './fleet.ts'
import { type KubernetesStandIn, startKubernetesApi } from './kubernetes-api.ts'
import { askStage, boot, type Learnt, type Machine, machineOf } from './machine.ts'
import type { OpenWorld, World, WorldOptions } from './world.ts'

/** What was counted, as `make done`. */
export type Counted = string[]

/** Who makes join credentials in a test: the brokers that are served, with bounds and a timeout of the test's. */
export function joiningOf(
  options: {
    readonly clock?: () => Date
    readonly timeoutSeconds?: number
    readonly limits?: Partial<CallLimits>
    readonly counted?: Counted
    readonly errors?: unknown[]
  } = {},
): Joining {
  const { timeoutSeconds, counted = [], errors = [] } = options
  const limits = {
    calls: 8,
    waiting: 16,
    held: 40,
    waitMilliseconds: 30_000,
    restMilliseconds: 0,
    ...options.limits,
  }
  const meter: JoinMeter = {
    called: (call: BackendCall, outcome) => counted.push(`${call} ${outcome}`),
    busy: () => counted.push('busy'),
  }
  const now = (): number => performance.now()
  return {
    broker: openBrokers({
      clock: options.clock ?? (() => new Date()),
      // Where no timeout is what the test is about, a machine that stands still for some seconds reaches none.
      timeoutMilliseconds: (timeoutSeconds ?? 60) * 1000,
    }),
    making: openBackendCalls(limits, now),
    removing: openBackendCalls({ ...limits, calls: 4, waiting: 30 }, now),
    limits: { lifetimeSeconds: 300, timeoutSeconds: timeoutSeconds ?? 5 },
    meter,
    ...openBackground((error) => errors.push(error)),
  }
}

/** A profile whose boots join the stand-in. */
export function joiningProfile(
  api: KubernetesStandIn,
  settings: Readonly<Record<string, unknown>> = {},
): { name: string } & Record<string, unknown> {
  const join = {
    kind: 'kubeadm',
    settings: { endpoint: new URL(api.url).host, kubeconfig: api.kubeconfig(), ...settings },
  }
  return {
    name: 'demo',
    evidence: ['secret'],
    boot: { stage2: 'small@1', stage3: 'full@1', join },
    reinstall: { stage2: 'small@1', stage3: 'full@2', join: { kind: 'none' } },
  }
}

/** The bootstrap tokens that stand there, by their Secrets' names. */
export function tokensAt(api: KubernetesStandIn): string[] {
  return [...api.objects.keys()].flatMap((path) =>
    path.startsWith('/api/v1/namespaces/kube-system/secrets/') ? [path.split('/').at(-1) ?? ''] : [],
  )
}

/** A machine whose boot joins a stand-in for a cluster, at the point where it asks for its join. */
export interface JoiningSite {
  readonly world: World
  readonly api: KubernetesStandIn
  readonly counted: Counted
  /** A machine that has come to the full system. */
  readonly machine: Machine
  readonly learnt: Learnt
  join(withKey?: string): Promise<string>
  end(): Promise<void>
}

/** The Idempotency-Key that its machine joins with. */
export const joinKey = 'a'.repeat(22)

/** Opens one. */
export async function openJoiningSite(
  t: Test,
  openWorld: OpenWorld,
  options: {
    readonly settings?: Readonly<Record<string, unknown>>
    readonly more?: Parameters<typeof joiningOf>[0]
    readonly world?: WorldOptions
  } = {},
): Promise<JoiningSite> {
  const api = await startKubernetesApi(t)
  const counted: Counted = []
  let clock = (): Date => new Date()
  const joining = joiningOf({ counted, clock: () => clock(), ...options.more })
  const world = await openWorld({ ...options.world, joining })
  clock = world.clock.now
  const secret = await storeDemoFleet(world)
  const by = { actor: 'operator:test', source: null, role: 'admin' } as const
  await applyProfile(world.context, by, 'demo', {
    ...joiningProfile(api, options.settings),
    acceptUnsigned: true,
  })
  const machine = machineOf(secret)
  const learnt = await boot(world, machine, 'stage3')
  return {
    ...{ world, api, counted, machine, learnt },
    join: async (withKey = joinKey) => (await askStage(world, machine, 'join', learnt.join, withKey)).text,
    end: () => joining.settled(),
  }
}

/**
 * The machine asks for its join where calls are given up after a second, once and again until one has reached the cluster: on a slow machine a
 * second may be over before.
 */
export async function joinInVain(
  { world, machine, learnt }: Pick<JoiningSite, 'world' | 'machine' | 'learnt'>,
  reached: () => boolean,
): Promise<string> {
  const joining = joiningOf({ clock: world.clock.now, timeoutSeconds: 1 })
  const hasty = { ...world, context: { ...world.context, joining } }
  for (;;) {
    const outcome = await outcomeOf(askStage(hasty, machine, 'join', learnt.join, joinKey))
    if (reached() || !/in time/.test(outcome)) return outcome
  }
}

/** What became of a request of a node. */
export async function outcomeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'answered'
  } catch (error) {
    if (error instanceof Refusal) return error.why
    return isPawlError(error) ? `${error.code}: ${error.message}` : String(error)
  }
}

/** Puts the profile "demo" of an installation into another form, as its server would store it. */
export async function storeSealed(
  db: Queries,
  dataDir: string,
  document: Readonly<Record<string, unknown>>,
): Promise<void> {
  const sealer = settingsSealer(settingsKey(dataDir))
  const profile = mapSecrets(parseProfile({ ...document, acceptUnsigned: true }), (value, { place }) =>
    sealer.seal(value, place),
  )
  await db
    .updateTable('profiles')
    .set({ document: JSON.stringify(writeProfile(profile)) })
    .where('name', '=', 'demo')
    .execute()
}

/** Whether of all that were to be removed nothing is left to do but to look once more, minutes later, behind a call whose end nobody saw. */
export async function isOver(db: Queries): Promise<boolean> {
  const rows = await db.selectFrom('join_credentials').selectAll().execute()
  return rows.every(
    ({ state, removal, remove_at, call_until }) =>
      state === 'called' && removal === 'success' && remove_at === call_until,
  )
}

/** The same server after its settings key was lost, for the places that are named. What it seals from now on it can open. */
export function withLostKey(world: World, isLost: (place: string) => boolean): World {
  const { sealer } = world.context
  const other = settingsSealer(Buffer.alloc(32, 9))
  const anew = new Set<string>()
  return {
    ...world,
    context: {
      ...world.context,
      sealer: {
        seal(value, place) {
          const sealed = sealer.seal(value, place)
          anew.add(sealed)
          return sealed
        },
        open: (sealed, place) => (isLost(place) && !anew.has(sealed) ? other : sealer).open(sealed, place),
      },
    },
  }
}
