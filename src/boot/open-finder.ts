import type { Artifact } from '../domain/image.ts'
import { ownCopy } from '../domain/own-copy.ts'
import type { BootStory } from './story.ts'

/** Finds artifacts that are open by their digest. */
export type OpenFinder = (digest: string) => Promise<Artifact | undefined>

/** A profile that changes is followed within this time. */
const keepMilliseconds = 1000
/** Digests that are made up push each other out, and what is asked for is asked for again. */
const maxKept = 1024

/** Asks the story once a second for each digest, whoever fetches it: a site's machines or a cache ask for the same again and again. */
export function openFinder(story: Pick<BootStory, 'findOpenArtifact' | 'clock'>): OpenFinder {
  const kept = new Map<string, { readonly until: number; readonly found: Promise<Artifact | undefined> }>()
  return (digest) => {
    const now = story.clock().getTime()
    const known = kept.get(digest)
    if (known !== undefined && now < known.until && known.until - now <= keepMilliseconds) return known.found
    kept.delete(digest)
    const entry = { until: now + keepMilliseconds, found: story.findOpenArtifact(digest) }
    kept.set(ownCopy(digest), entry)
    for (const oldest of kept.keys()) {
      if (kept.size <= maxKept) break
      kept.delete(oldest)
    }
    // The next who asks tries again.
    entry.found.catch(() => kept.get(digest) === entry && kept.delete(digest))
    return entry.found
  }
}
