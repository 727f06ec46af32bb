import type { SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { readPinned } from './pin.ts'
import type { Work } from './work.ts'

/**
 * An entry is an address that machines boot by, with the root that they know there. There is one; while the root is rotated
 * there are two. A session goes on by the entry that its stage 1 came by, whichever listener or replica is asked later: it is
 * pinned to it by the root, which is the same everywhere.
 */
export interface BootEntry {
  /** `https://HOST[:PORT]`: every URL that is given out begins with it. */
  readonly publicUrl: string
  /** SHA-256 of the root's DER. */
  readonly root: string
  /** What agents trust there, PEM. */
  readonly ca: string
}

/** `{publicUrl}/v1/boot/{host}`: what a node's requests go to. */
export function bootBase({ publicUrl }: BootEntry, host: string): string {
  return `${publicUrl}/v1/boot/${host}`
}

/** The same work as it goes on for a session: by the session's entry, or by the one that was asked where that one is gone. */
export function atEntryOf(work: Work, session: SessionRow): Work {
  return { ...work, context: at(work.context, readPinned(session.pinned).root) }
}

function at(context: BootContext, root: string | undefined): BootContext {
  const entry = context.entries().find((one) => one.root === root)
  return entry === undefined || entry === context.entry ? context : { ...context, entry }
}
