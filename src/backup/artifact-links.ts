import { link, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'

/** Artifacts held by a second name each, in a folder of the backup's own, so that a prune does not take their bytes away. */
export interface ArtifactLinks {
  /** Says which artifacts the database names, and holds what came since. */
  need(digests: readonly string[]): Promise<void>
  /** What is named and not there. */
  missing(): string[]
  /** What is held of what is needed, each once. */
  all(): { readonly digest: string; readonly path: string }[]
  remove(): Promise<void>
}

/** Tells a running backup's folder from one that was left behind. */
export interface Owner {
  readonly processId: number
  readonly isAlive: (processId: number) => boolean
}

/** Links every artifact of the store in `folder`. Removes what a killed backup left. */
export async function linkArtifacts(folder: string, owner: Owner): Promise<ArtifactLinks> {
  await removeStale(folder, owner)
  const own = join(folder, `backup-${owner.processId}`)
  const from = join(folder, 'sha256')
  const held = new Set<string>()
  const needed = new Set<string>()
  const missing = new Set<string>()
  const hold = async (digest: string): Promise<boolean> => {
    try {
      await link(join(from, digest), join(own, digest))
    } catch (cause) {
      const code = (cause as { code?: unknown }).code
      if (code === 'ENOENT') return false
      throw new PawlError('invalid', `artifacts in ${folder} cannot be held by links (${String(code)})`, {
        hint: 'use --without-artifacts and copy that folder with other tools, while nothing is pruned',
        cause,
      })
    }
    held.add(digest)
    return true
  }
  const links: ArtifactLinks = {
    async need(digests) {
      for (const digest of digests) {
        if (held.has(digest) || (await hold(digest))) needed.add(digest)
        else missing.add(digest)
      }
    },
    all: () => [...needed].sort().map((digest) => ({ digest, path: join(own, digest) })),
    missing: () => [...missing].sort(),
    remove: () => rm(own, { recursive: true, force: true }),
  }
  try {
    await mkdir(own, { recursive: true, mode: 0o700 })
    for (const name of await list(from)) if (/^[0-9a-f]{64}$/.test(name)) await hold(name)
  } catch (error) {
    await links.remove()
    throw error
  }
  return links
}

async function removeStale(folder: string, { processId, isAlive }: Owner): Promise<void> {
  for (const name of await list(folder)) {
    const [, id] = /^backup-(\d+)$/.exec(name) ?? []
    if (id === undefined || (Number(id) !== processId && isAlive(Number(id)))) continue
    await rm(join(folder, name), { recursive: true, force: true })
  }
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return []
    throw error
  }
}
