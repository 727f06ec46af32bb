import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { countRootUsers, listRootUsers, type RootUser } from '../storage/node-roots.ts'

/** An address that machines boot by, with the root they know there. */
export interface RootEntryView {
  /** `main`: for new media. `old`: for machines that know the root of before. */
  readonly name: 'main' | 'old'
  readonly publicUrl: string
  /** SHA-256 of the root's DER, as iPXE knows it. */
  readonly root: string
  /** What machines trust there, PEM. */
  readonly certificates: string
  /** Nodes that booted by this root in those days. */
  readonly nodes: number
}

/** A CA that was made to take the place of the one there is. */
export interface NextRoot {
  readonly root: string
  /** PEM. */
  readonly certificates: string
}

/** The roots that are served, and who needs the old one still. */
export interface RootsView {
  /** `made`: there is another CA, which is not served yet. `served`: both are. */
  readonly rotation: 'none' | 'made' | 'served'
  readonly entries: readonly RootEntryView[]
  /** The next root, where it is made and not served. */
  readonly next: NextRoot | null
  /** What counts as lately. */
  readonly days: number
  /** Nodes that booted by the old root ever, the last first; at most 1000. Empty where there is none. */
  readonly users: readonly RootUser[]
}

const mostUsers = 1000

/** Shows them. */
export async function showRoots(
  context: BootContext,
  { days, next }: { readonly days: number; readonly next: NextRoot | undefined },
): Promise<RootsView> {
  const { db } = context.storage
  const since = addSeconds(context.clock(), -days * 86_400)
  const entries: RootEntryView[] = []
  for (const [at, { publicUrl, root, ca }] of context.entries().entries()) {
    const nodes = await countRootUsers(db, root, since)
    entries.push({ name: at === 0 ? 'main' : 'old', publicUrl, root, certificates: ca, nodes })
  }
  const old = entries.find(({ name }) => name === 'old')
  const served = old !== undefined
  return {
    rotation: served ? 'served' : next === undefined ? 'none' : 'made',
    entries,
    next: served ? null : (next ?? null),
    days,
    users: old === undefined ? [] : await listRootUsers(db, old.root, mostUsers),
  }
}
