/**
 * A node that boots again and again. Every machine that crashes early does: it asks for stage 1, nothing is heard, and it asks
 * again, each time for the price of a whole boot. It is held back with pauses that grow, and never for ever.
 *
 * Only stage 1s that were authenticated and opened a session count: nobody holds back a node that he cannot prove to be.
 */

/** A session of the node, as far as this asks. */
export interface PastBoot {
  readonly startedAt: string
  /** It ended in a report of the node: success, or an error that it could not get over. */
  readonly reported: boolean
  /** The same stage 1 was asked again at once: a second NIC, or a lost answer. The one behind it counts. */
  readonly repeated: boolean
}

/** How many are too many; of the settings. */
export interface LoopSettings {
  /** Stage 1s without a report between them, within the window. 0: none are too many. */
  readonly loopStage1s: number
  readonly loopWindowSeconds: number
  /** Stage 1s within an hour, whatever came of them. */
  readonly maxStage1PerHour: number
}

/** What is to be done with the next stage 1. */
export interface LoopJudgement {
  /** Why it loops; undefined where it does not. */
  readonly why?: 'no-report' | 'too-many'
  /** Stage 1s in a row that no report ended. */
  readonly unreported: number
  readonly inHour: number
  /** How long it waits first. */
  readonly pauseSeconds: number
}

/** 30 s, 1, 2, 4, 8 and at most 10 minutes, which iPXE waits by itself (503, `Retry-After`). */
export const pauses = [30, 60, 120, 240, 480, 600] as const
const longestPause = 600

/** Judges by the boots of before, the newest first. `loopingSince`: it was found to loop then. */
export function judgeLoop(
  boots: readonly PastBoot[],
  { now, loopingSince }: { readonly now: Date; readonly loopingSince: string | null },
  { loopStage1s, loopWindowSeconds, maxStage1PerHour }: LoopSettings,
): LoopJudgement {
  const inHour = boots.filter(({ startedAt }) => now.getTime() - Date.parse(startedAt) < 3600_000).length
  // Once it loops, the pauses lie between its boots: each is measured from the one behind it.
  const silent = silentBoots(boots, now, {
    seconds: loopWindowSeconds + (loopingSince === null ? 0 : longestPause),
    each: loopingSince !== null,
  })
  const unreported = silent.length
  const excess: number[] = []
  if (loopStage1s > 0 && unreported >= loopStage1s)
    excess.push(
      loopingSince === null ? 0 : silent.filter(({ startedAt }) => startedAt >= loopingSince).length,
    )
  const isSilent = excess.length > 0
  if (inHour >= maxStage1PerHour) excess.push(inHour - maxStage1PerHour)
  if (excess.length === 0) return { unreported, inHour, pauseSeconds: 0 }
  const pauseSeconds = pauses[Math.max(...excess)] ?? longestPause
  return { why: isSilent ? 'no-report' : 'too-many', unreported, inHour, pauseSeconds }
}

/** The latest boots in a row without a report: all within a time before now, or `each` within it before the one behind it. */
function silentBoots(
  boots: readonly PastBoot[],
  now: Date,
  { seconds, each }: { readonly seconds: number; readonly each: boolean },
): PastBoot[] {
  const silent: PastBoot[] = []
  let until = now.getTime()
  for (const boot of boots) {
    if (boot.reported) break
    const at = Date.parse(boot.startedAt)
    if (until - at >= seconds * 1000) break
    if (boot.repeated) continue
    silent.push(boot)
    if (each) until = at
  }
  return silent
}
