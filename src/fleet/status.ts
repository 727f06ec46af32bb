import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import type { NodeState } from '../domain/state.ts'
import { listPending } from '../storage/pending.ts'
import { listLiveRollouts } from '../storage/rollouts.ts'
import { countLooping, countPaces } from '../storage/session-paces.ts'
import { countNodes, countRefusals } from '../storage/status.ts'
import { type ProcessView, showProcesses } from './processes.ts'
import { sharedAddresses } from './shared-addresses.ts'
import { showWebhooks } from './webhook-view.ts'

/** A fleet at a glance. */
export interface StatusView {
  readonly nodes: { readonly total: number; readonly states: Readonly<Partial<Record<NodeState, number>>> }
  /** Boots under way that are slow, those that are stuck, and nodes that boot again and again without a report. */
  readonly boots: { readonly slow: number; readonly stuck: number; readonly looping: number }
  readonly reinstalls: { readonly marked: number; readonly serving: number }
  /** Unknown machines that wait for someone. */
  readonly pending: number
  readonly rollouts: readonly {
    readonly id: string
    /** `name/channel`. */
    readonly channel: string
    readonly version: string
    readonly state: string
    readonly wave: number
  }[]
  /** Changes that wait for a second person. */
  readonly proposals: number
  /** Addresses that several nodes have and one of them would need as a proof: those boots are refused. */
  readonly sharedAddresses: number
  readonly refusals: { readonly lastHour: number; readonly nodes: number }
  /** The processes that serve, as each said of itself within the last seconds. */
  readonly processes: readonly (Omit<ProcessView, 'load'> & {
    readonly load: Omit<ProcessView['load'], 'nodes'>
  })[]
  readonly webhooks: { readonly total: number; readonly notWell: readonly string[] }
}

const hour = 3600

/** Looks at all of it. */
export async function showStatus(context: BootContext): Promise<StatusView> {
  const { db } = context.storage
  const now = context.clock()
  const counts = await countNodes(db)
  const marked = (mark: string): number =>
    counts.filter(({ reinstall }) => reinstall === mark).reduce((sum, { count }) => sum + count, 0)
  const states: Record<string, number> = {}
  for (const { state, count } of counts) states[state] = (states[state] ?? 0) + count
  const refusals = await countRefusals(db, addSeconds(now, -hour))
  const webhooks = await showWebhooks(context)
  const { count: proposals } = await db
    .selectFrom('proposals')
    .select((e) => e.fn.countAll().as('count'))
    .where('state', '=', 'waiting')
    .where('expires_at', '>', now.toISOString())
    .executeTakeFirstOrThrow()
  return {
    nodes: { total: counts.reduce((sum, { count }) => sum + count, 0), states },
    boots: { ...(await countPaces(db)), looping: await countLooping(db) },
    reinstalls: { marked: marked('marked'), serving: marked('serving') },
    pending: (await listPending(db, now, false)).length,
    rollouts: (await listLiveRollouts(db)).map(({ id, name, channel, version, state, wave }) => ({
      id,
      channel: `${name}/${channel}`,
      version,
      state,
      wave,
    })),
    proposals: Number(proposals),
    sharedAddresses: (await sharedAddresses(db)).length,
    refusals: { lastHour: refusals.count, nodes: refusals.nodes },
    processes: (await showProcesses(db)).map(({ load: { nodes: _, ...load }, ...process }) => ({
      ...process,
      load,
    })),
    webhooks: {
      total: webhooks.length,
      notWell: webhooks
        .filter((one) => one.disabledBy === 'gone' || one.failingSince !== null)
        .map(({ name }) => name),
    },
  }
}
