import type { NodeScripts, ScriptOf } from './files.ts'
import { openBudget } from './limits.ts'

/** What finding scripts of nodes needs. */
export interface NodeScriptOptions {
  /** The name of the one node that has it; asks the database. */
  readonly nodeOf: (of: ScriptOf) => Promise<string | undefined>
  /** The site script that names a node, without a secret. */
  readonly scriptOf: (node: string) => string
  /** Milliseconds of a clock that is never set. */
  readonly now: () => number
  readonly onError: (error: unknown) => void
}

/** A change of the fleet shows this long after it at the latest. */
const freshMilliseconds = 10_000
const maxRemembered = 2000
/** Lookups at the same time, and in a second: requests are cheap to forge, queries are not cheap to answer. */
const maxLookups = 8
const lookups = { perSecond: 100, burst: 200, allPerSecond: 100, allBurst: 200, maxUnits: 1 }

/**
 * Scripts of nodes, remembered for a while. Who comes when too many ask gets no node's script, hence everyone's, which finds
 * out by facts who it is: a flood costs the database nothing, and no boot.
 */
export function openNodeScripts(options: NodeScriptOptions): NodeScripts {
  const remembered = new Map<string, { readonly until: number; readonly node: string | undefined }>()
  const underWay = new Map<string, Promise<string | undefined>>()
  const budget = openBudget(lookups)

  async function ask(key: string, of: ScriptOf): Promise<string | undefined> {
    const node = await options.nodeOf(of)
    const [oldest] = remembered.keys()
    if (remembered.size >= maxRemembered && oldest !== undefined) remembered.delete(oldest)
    remembered.delete(key)
    remembered.set(key, { until: options.now() + freshMilliseconds, node })
    return node
  }

  async function nodeOf(of: ScriptOf): Promise<string | undefined> {
    const key = 'mac' in of ? of.mac : of.address
    const known = remembered.get(key)
    if (known !== undefined && options.now() < known.until) return known.node
    const same = underWay.get(key)
    if (same !== undefined) return same
    if (underWay.size >= maxLookups || !budget.take('all', options.now())) return undefined
    const asked = ask(key, of).finally(() => underWay.delete(key))
    underWay.set(key, asked)
    return asked
  }

  return async (of) => {
    try {
      const node = await nodeOf(of)
      return node === undefined ? undefined : options.scriptOf(node)
    } catch (error) {
      options.onError(error) // everyone's script is better than none
      return undefined
    }
  }
}
