import { countingGroup } from '../domain/address.ts'

/**
 * Which site a request is of, to share turns fairly: the label `site` of a node that was served from there, or else the prefix of
 * the source, an IPv4 /24 or IPv6 /48. Only what a node proved teaches anything: a host name in a URL is anyone's word, and who
 * could name another site would take its turns.
 */
export interface Sites {
  siteOf(source: string): string
  /** A node was served from there: its label is worth asking for. */
  noteServed(source: string, node: string): void
  /** The nodes whose labels are worth asking for, once. */
  takeNodes(): string[]
  /** What their labels are; a node without one is left out. */
  learn(siteByNode: Readonly<Record<string, string>>): void
}

const maxPrefixes = 4096
/** Labels change: they are asked for again. */
const learnAgainSeconds = 300

/** Knows no site yet. `now` is in seconds. */
export function openSites(now: () => number = () => performance.now() / 1000): Sites {
  const learned = new Map<string, { site: string | undefined; node: string; at: number }>()
  /** Prefixes by node: those of which it is not asked yet, and those of which it is. */
  const wanted = new Map<string, string[]>()
  const asked = new Map<string, string[]>()
  return {
    siteOf(source) {
      const prefix = prefixOf(source)
      const site = learned.get(prefix)?.site
      return site === undefined ? prefix : `site ${site}`
    },
    noteServed(source, node) {
      const prefix = prefixOf(source)
      const known = learned.get(prefix)
      if (known !== undefined && now() - known.at < learnAgainSeconds) return
      const [oldest] = learned.keys()
      if (known === undefined && learned.size >= maxPrefixes && oldest !== undefined) learned.delete(oldest)
      learned.delete(prefix)
      learned.set(prefix, { site: known?.site, node, at: now() })
      wanted.set(node, [...(wanted.get(node) ?? []), prefix])
    },
    takeNodes() {
      for (const [node, prefixes] of wanted) asked.set(node, [...(asked.get(node) ?? []), ...prefixes])
      wanted.clear()
      return [...asked.keys()]
    },
    learn(siteByNode) {
      for (const [node, prefixes] of asked) {
        for (const prefix of prefixes) {
          const known = learned.get(prefix)
          if (known?.node === node) known.site = siteByNode[node]
        }
      }
      asked.clear()
    },
  }
}

/** An IPv4 /24 or IPv6 /48. Sources come in their one spelling, so that most need no parser. */
function prefixOf(source: string): string {
  return /^\d+\.\d+\.\d+\.\d+$/.test(source)
    ? `${source.slice(0, source.lastIndexOf('.'))}.0/24`
    : countingGroup(source)
}
