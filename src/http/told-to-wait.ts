import type { Clock } from '../domain/clock.ts'
import type { ProcessLoad, Spell, WaitingNode } from '../domain/load.ts'
import { ownCopy } from '../domain/own-copy.ts'
import { openCount } from './count.ts'

/** Who was told to come again, and since when there is too much to do. */
export interface ToldToWait {
  /**
   * A node, as its request names it, was told to come in so many seconds. Without a name only the overload is noted. `why` says what its join
   * waits for: that is no overload.
   */
  note(told: {
    readonly node: string | undefined
    readonly site: string
    readonly request: string
    readonly source: string
    readonly seconds: number
    readonly why?: string | undefined
  }): void
  /** It came, and was let in. A join that waits does so until one of its requests was served. */
  came(node: string): void
  /**
   * Where a node was told so and has not been let in since: of how many nodes of the site from which it comes now that is true, itself too.
   * Joins that wait are none of them. Who says its name elsewhere changes nothing.
   */
  waitingWith(node: string, site: string): number | undefined
  served(node: string): void
  /** An overload that began or ended since this was asked last: one event for each. */
  takeSpells(): Spell[]
  stats(): Pick<ProcessLoad, 'overloadedSince' | 'nodes' | 'nodesWaiting'>
}

/** Names that are kept: a flood of made-up ones pushes out the oldest, and no more. */
const maxNodes = 20_000
/** Names that a heartbeat tells. */
const maxTold = 300
const maxName = 253
const maxWhy = 300
/** Who does not come so long after its time does not wait any more. */
const lateSeconds = 300
/** An overload is over when nobody was told for so long. */
const quietSeconds = 60

interface Told {
  readonly node: WaitingNode
  readonly site: string
}

/** Nobody waits yet. */
export function openToldToWait(clock: Clock): ToldToWait {
  /** Told last is last. */
  const nodes = new Map<string, Told>()
  /** Those that wait for the server, by site. */
  const ofSite = openCount()

  function keep(name: string, told: Told): void {
    nodes.set(name, told)
    if (told.node.why === undefined) ofSite.add(told.site, 1)
  }

  function forget(name: string): Told | undefined {
    const told = nodes.get(name)
    if (told === undefined) return undefined
    nodes.delete(name)
    if (told.node.why === undefined) ofSite.add(told.site, -1)
    return told
  }

  let spell: { readonly since: Date; last: Date; times: number; told: boolean } | undefined
  let ended: Spell[] = []

  function tidy(now: Date): void {
    for (const [name, { node }] of nodes) {
      if (now.getTime() - Date.parse(node.until) > lateSeconds * 1000) forget(name)
    }
    if (spell === undefined || now.getTime() - spell.last.getTime() < quietSeconds * 1000) return
    ended.push({ since: spell.since.toISOString(), until: spell.last.toISOString(), times: spell.times })
    spell = undefined
  }

  return {
    note({ node, site, request, source, seconds, why }) {
      const now = clock()
      if (why === undefined) {
        spell ??= { since: now, last: now, times: 0, told: false }
        spell.last = now
        spell.times += 1
      }
      if (node === undefined) return
      const name = ownCopy(node.slice(0, maxName))
      const before = forget(name)?.node
      const [oldest] = nodes.keys()
      if (nodes.size >= maxNodes && oldest !== undefined) forget(oldest)
      const at = now.toISOString()
      const until = new Date(now.getTime() + seconds * 1000).toISOString()
      const times = (before?.times ?? 0) + 1
      const since = before?.since ?? at
      const told = { node: name, request, source: ownCopy(source), since, at, times, until }
      keep(name, { node: why === undefined ? told : { ...told, why: why.slice(0, maxWhy) }, site })
    },
    came(node) {
      if (nodes.get(node)?.node.why === undefined) forget(node)
    },
    waitingWith(node, site) {
      const told = nodes.get(node)
      if (told === undefined || told.node.why !== undefined) return undefined
      return ofSite.of(site) + (told.site === site ? 0 : 1)
    },
    served: (node) => void forget(node),
    takeSpells() {
      tidy(clock())
      const spells = ended
      ended = []
      if (spell === undefined || spell.told) return spells
      spell.told = true
      return [...spells, { since: spell.since.toISOString(), until: null, times: spell.times }]
    },
    stats() {
      tidy(clock())
      const all = [...nodes.values()].map((told) => told.node)
      return {
        overloadedSince: spell?.since.toISOString() ?? null,
        nodesWaiting: all.filter(({ why }) => why === undefined).length,
        nodes: all.slice(-maxTold).reverse(),
      }
    },
  }
}
