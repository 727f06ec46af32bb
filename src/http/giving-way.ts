import type { WorkKind } from '../domain/load.ts'
import type { Count } from './count.ts'
import type { FairQueue, Place } from './fair-queue.ts'

/** The queues that share a bound. */
export interface Queues<Item> {
  readonly lanes: Readonly<Record<Exclude<WorkKind, 'report'>, FairQueue<Item>>>
  /** How many of a site wait in them. */
  readonly waitOf: Count
}

/** In the order in which those of one site give way. */
const givingWay = ['new', 'download', 'running'] as const

/**
 * Who leaves a full queue for a request of this kind and site: the newest of the site of which most wait, whatever it asks for, a stage 1
 * of it before what finishes a boot. A flood of one kind so takes no room from another kind of other sites. A request that finishes a boot
 * also has the place of a stage 1 of a site that has as many waiting, its own too. Undefined: nobody.
 */
export function whoGivesWay<Item>(
  { lanes, waitOf }: Queues<Item>,
  kind: WorkKind,
  site: string,
): Place<Item> | undefined {
  const own = waitOf.of(site)
  let found: { readonly site: string; readonly length: number } | undefined
  for (const [name, length] of waitOf.entries()) {
    if (length < own || length <= (found?.length ?? 0)) continue
    const hasNew = kind !== 'new' && lanes.new.lengthOf(name) > 0
    if (hasNew || length > own + 1) found = { site: name, length }
  }
  if (found === undefined) return undefined
  for (const one of givingWay) {
    const place = lanes[one].newestOf(found.site)
    if (place !== undefined) return place
  }
  return undefined
}

/** The same of one queue that has a bound of its own. */
export function whoGivesWayOf<Item>(lane: FairQueue<Item>, site: string): Place<Item> | undefined {
  const largest = lane.largest()
  return largest !== undefined && largest.length > lane.lengthOf(site) + 1 ? largest.newest : undefined
}
