import { join } from 'node:path'
import type { Config } from './config.ts'
import { addSeconds } from './domain/clock.ts'
import { PawlError } from './errors.ts'
import { openAuthority } from './pki/authority.ts'
import { findPublicFile } from './pki/key-file.ts'
import { hasNext } from './pki/places.ts'
import { cutOver, finishCutOver, makeNext } from './pki/rotation.ts'
import { rootFingerprint } from './pki/x509.ts'
import { openStorage, type Storage } from './storage/database.ts'
import { appendEvent, listEvents } from './storage/events.ts'
import { countRootUsers, listRootUsers, type RootUser } from './storage/node-roots.ts'

/** What `pawl root rotate` made. */
export interface RotationMade {
  /** The root there is, and the one to come: SHA-256 of their DER. */
  readonly from: string
  readonly to: string
  /** The file of the new root. */
  readonly ca: string
  /** Files that are new; none where all was there. */
  readonly created: readonly string[]
}

/** What `pawl root cut-over` did, or would. */
export interface CutOver {
  readonly applied: boolean
  readonly from: string
  readonly to: string
  readonly days: number
  /** Nodes that booted by the old root in those days: they stand against it. */
  readonly users: readonly RootUser[]
  /** Nodes that booted by it before, and by no other since: they find nobody at their next boot, unless their media is new. */
  readonly stranded: readonly RootUser[]
  /** Nodes that booted by the new root. */
  readonly moved: number
  /** Where the old CA's files are then. */
  readonly retired: string | null
}

/** What is cut over, and how carefully. */
export interface CutOverOptions {
  readonly config: Config
  readonly now: Date
  /** What counts as lately. */
  readonly days: number
  readonly force: boolean
  readonly apply: boolean
  /** Called behind each step; what it throws ends the work there. */
  readonly faults?: (step: string) => void
}

const most = 1000

/** Makes the CA that takes the place of the one there is. Run again it changes nothing; killed in the middle, it goes on. */
export async function rotateRoot({ config, now }: { config: Config; now: Date }): Promise<RotationMade> {
  const { dataDir } = config
  finishCutOver(dataDir)
  const created = await makeNext(dataDir, now)
  const from = rootFingerprint(openAuthority(dataDir).rootCertificate)
  const to = rootFingerprint(openAuthority(dataDir, 'next').rootCertificate)
  await withStorage(config, async (storage) => {
    // Not "where something was made": killed right behind that, the next run would find all there and say nothing of it.
    const told = await listEvents(storage.db, { kind: 'root-rotated', newest: true, limit: 10 })
    if (told.some(({ detail }) => (JSON.parse(detail) as { after?: unknown }).after === to)) return
    await note(storage, now, 'root-rotated', { before: from, after: to })
  })
  return { from, to, ca: join(dataDir, 'pki', 'next', 'ca.crt'), created }
}

/**
 * Puts the next CA in the place of the one there is, when no node needs that any more. Throws `conflict` where there is no next
 * one, where nodes have booted by the old root in the last days, and where none has booted by the new one: `force` does it all the same.
 */
export async function cutOverRoot(options: CutOverOptions): Promise<CutOver> {
  const { config, now, apply } = options
  const { dataDir } = config
  const finished = finishCutOver(dataDir)
  if (!hasNext(dataDir)) {
    if (finished !== undefined) return finishedBefore(options, finished)
    throw new PawlError('conflict', 'no root is being rotated: there is no next one', {
      hint: 'begin with pawl root rotate; where bootCertFile replaced our CA, take oldBootListen and oldPublicUrl out of the settings',
    })
  }
  const from = rootFingerprint(openAuthority(dataDir).rootCertificate)
  const to = rootFingerprint(openAuthority(dataDir, 'next').rootCertificate)
  return withStorage(config, async (storage) => {
    const plan = await planOf(storage, options, { from, to })
    if (!options.force) refuseTooEarly(plan)
    if (!apply) return plan
    // First: what follows cannot be taken back, and must not be without a word.
    const told = {
      nodes: plan.users.length + plan.stranded.length,
      days: options.days,
      forced: options.force,
    }
    await note(storage, now, 'root-cut-over', { before: from, after: to, ...told })
    return { ...plan, applied: true, retired: cutOver(dataDir, options.faults) }
  })
}

async function planOf(
  { db }: Storage,
  { now, days }: CutOverOptions,
  { from, to }: Pick<CutOver, 'from' | 'to'>,
): Promise<CutOver> {
  const since = addSeconds(now, -days * 86_400)
  const all = await listRootUsers(db, from, most, { lastOnly: true })
  return {
    applied: false,
    from,
    to,
    days,
    users: await listRootUsers(db, from, most, { since }),
    stranded: all.filter(({ lastAt }) => Date.parse(lastAt) <= since.getTime()),
    moved: await countRootUsers(db, to),
    retired: null,
  }
}

function refuseTooEarly({ users, days, moved }: CutOver): void {
  const names = users.slice(0, 5).map(({ node }) => node)
  const shown = `${names.join(', ')}${users.length > names.length ? ', …' : ''}`
  if (users.length > 0)
    throw new PawlError(
      'conflict',
      `${users.length === most ? `${most} or more nodes` : users.length === 1 ? '1 node' : `${users.length} nodes`} booted by the old root in the last ${days} days: ${shown}`,
      { hint: 'give them media with the new one (pawl root show lists them), or wait; --force strands them' },
    )
  if (moved === 0)
    throw new PawlError('conflict', 'no node has booted by the new root yet', {
      hint: 'is it served? docs/certificates.md has the steps; --force does it all the same',
    })
}

/** A cut-over that was cut off was finished by this call: that is all that was asked for. */
async function finishedBefore({ config, days }: CutOverOptions, retired: string): Promise<CutOver> {
  const old = findPublicFile(join(retired, 'ca.crt'))
  return {
    applied: true,
    from: old === undefined ? '' : rootFingerprint(old),
    to: rootFingerprint(openAuthority(config.dataDir).rootCertificate),
    days,
    users: [],
    stranded: [],
    moved: 0,
    retired,
  }
}

async function withStorage<T>({ database }: Config, work: (storage: Storage) => Promise<T>): Promise<T> {
  const storage = await openStorage(database)
  try {
    return await work(storage)
  } finally {
    await storage.close()
  }
}

function note(
  storage: Storage,
  at: Date,
  kind: 'root-rotated' | 'root-cut-over',
  detail: Record<string, unknown>,
): Promise<void> {
  const nobody = { node: null, session: null, source: null }
  return storage.transaction((tx) => appendEvent(tx, { ...nobody, kind, at, actor: 'operator:root', detail }))
}
