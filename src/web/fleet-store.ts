import { get } from './api.ts'
import { listen } from './live.ts'
import type { Overview, OverviewNode } from './shapes.ts'

/** The fleet as this page knows it. */
export interface FleetState {
  readonly nodes: ReadonlyMap<string, OverviewNode>
  /** There are more nodes than are shown. */
  readonly more: boolean
  /** Nothing has been loaded yet. */
  readonly loading: boolean
  readonly error: string | undefined
}

/** Changes are gathered for so long: ten thousand boots at once are one look every while. */
const gatherMilliseconds = 700
/** More changed nodes than these, and the whole fleet is asked for. */
const maxAskedByName = 50
const wholeFleetEveryMilliseconds = 5000
const maxPauseMilliseconds = 30_000

const nothing: FleetState = { nodes: new Map(), more: false, loading: true, error: undefined }
let state = nothing
const watchers = new Set<(state: FleetState) => void>()
const dirty = new Set<string>()
let isWholeDirty = false
let loadedAt = Number.NEGATIVE_INFINITY
let timer: ReturnType<typeof setTimeout> | undefined
/** How often in a row the server did not answer. */
let failures = 0
let end: (() => void) | undefined

/** Calls `watcher` now and with each change; returns what ends it. */
export function watchFleet(watcher: (state: FleetState) => void): () => void {
  watchers.add(watcher)
  watcher(state)
  return () => watchers.delete(watcher)
}

/** Begins to follow the fleet, until `stopFleet`. */
export function startFleet(): void {
  end ??= listen({
    onEvent: ({ node }) => {
      if (node !== null) touch([node])
    },
    onGap: touchAll,
  })
  touchAll()
}

/** Asks for nothing any more: of who is signed out each question would count as an attempt to get in. */
export function stopFleet(): void {
  end?.()
  end = undefined
  clearTimeout(timer)
  timer = undefined
  failures = 0
  set(nothing)
}

/** Says that these nodes have changed, as whoever changed them knows. */
export function touch(names: readonly string[]): void {
  for (const name of names) dirty.add(name)
  if (dirty.size > maxAskedByName) isWholeDirty = true
  soon()
}

function touchAll(): void {
  isWholeDirty = true
  soon()
}

function soon(): void {
  if (timer !== undefined || end === undefined) return
  const first = state.loading && state.error === undefined
  const rest = isWholeDirty ? loadedAt + wholeFleetEveryMilliseconds - performance.now() : 0
  const pause = failures === 0 ? 0 : Math.min(maxPauseMilliseconds, 1000 * 2 ** failures)
  timer = setTimeout(() => void load(), first ? 0 : Math.max(gatherMilliseconds, rest, pause))
}

async function load(): Promise<void> {
  const mine = end
  const names = isWholeDirty ? undefined : [...dirty]
  dirty.clear()
  isWholeDirty = false
  try {
    if (names === undefined) await loadAll()
    else await loadSome(names)
    failures = 0
  } catch (error) {
    if (end !== mine) return
    isWholeDirty = true
    failures += 1
    set({ ...state, error: error instanceof Error ? error.message : String(error) })
  }
  if (end !== mine) return
  timer = undefined
  if (isWholeDirty || dirty.size > 0) soon()
}

async function loadAll(): Promise<void> {
  const mine = end
  const { nodes, more } = await get<Overview>('overview')
  if (end !== mine) return
  loadedAt = performance.now()
  set({ nodes: new Map(nodes.map((node) => [node.name, node])), more, loading: false, error: undefined })
}

async function loadSome(names: readonly string[]): Promise<void> {
  const mine = end
  const query = names.map((name) => `name=${encodeURIComponent(name)}`).join('&')
  const { nodes } = await get<Overview>(`overview?${query}`)
  if (end !== mine) return
  const all = new Map(state.nodes)
  for (const name of names) all.delete(name)
  for (const node of nodes) all.set(node.name, node)
  set({ ...state, nodes: all, error: undefined })
}

function set(next: FleetState): void {
  state = next
  for (const watcher of watchers) watcher(state)
}
