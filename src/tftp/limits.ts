/** Answers that may still be given to who has not proved its address. */
export interface Budget {
  /** Takes one for this unit; false when there is none left. */
  take(unit: string, now: number): boolean
  /** Gives one back: the unit was there. */
  giveBack(unit: string): void
}

interface Bucket {
  left: number
  at: number
}

/**
 * A bucket for each unit and one for all, filled `perSecond` up to `burst`: a forged request makes us send to the one whose
 * address it bears, so that what it gets is bounded however many requests come. With more units than `maxUnits`, those that
 * come last share one bucket.
 */
export function openBudget(limits: {
  readonly perSecond: number
  readonly burst: number
  readonly allPerSecond: number
  readonly allBurst: number
  readonly maxUnits: number
}): Budget {
  const buckets = new Map<string, Bucket>()
  const all: Bucket = { left: limits.allBurst, at: 0 }
  const overflow: Bucket = { left: limits.burst, at: 0 }
  let sweptAt = 0

  function bucketOf(unit: string, now: number): Bucket {
    const known = buckets.get(unit)
    if (known !== undefined) return known
    if (buckets.size >= limits.maxUnits && now - sweptAt >= 1000) {
      sweptAt = now
      for (const [key, bucket] of buckets) {
        if (refilled(bucket, now, limits.perSecond, limits.burst) >= limits.burst) buckets.delete(key)
      }
    }
    if (buckets.size >= limits.maxUnits) return overflow
    const fresh = { left: limits.burst, at: now }
    buckets.set(unit, fresh)
    return fresh
  }

  return {
    take: (unit, now) => {
      const bucket = bucketOf(unit, now)
      bucket.left = refilled(bucket, now, limits.perSecond, limits.burst)
      all.left = refilled(all, now, limits.allPerSecond, limits.allBurst)
      bucket.at = now
      all.at = now
      if (bucket.left < 1 || all.left < 1) return false
      bucket.left -= 1
      all.left -= 1
      return true
    },
    giveBack: (unit) => {
      const bucket = buckets.get(unit) ?? overflow
      bucket.left = Math.min(limits.burst, bucket.left + 1)
      all.left = Math.min(limits.allBurst, all.left + 1)
    },
  }
}

function refilled({ left, at }: Bucket, now: number, perSecond: number, most: number): number {
  return Math.min(most, left + ((now - at) / 1000) * perSecond)
}

/** Lets so many lines a minute into the log, and tells how many it kept out when the next minute begins. */
export interface LineLimit {
  /** Whether a line may be written now; `missed` is how many were not since the last that was. */
  admit(now: number): { readonly missed: number } | undefined
}

/** Opens a limit of `perMinute` lines: strangers cause them, and a log is on a disk. */
export function openLineLimit(perMinute: number): LineLimit {
  let since = Number.NEGATIVE_INFINITY
  let written = 0
  let missed = 0
  return {
    admit: (now) => {
      if (now - since >= 60_000) {
        since = now
        written = 0
      }
      if (written >= perMinute) {
        missed += 1
        return undefined
      }
      written += 1
      const told = missed
      missed = 0
      return { missed: told }
    },
  }
}
