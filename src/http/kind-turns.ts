import type { WorkKind } from '../domain/load.ts'

/** A kind that was passed over so often in a row has the next turn. */
const maxPassedOver = 8

/**
 * Whose turn it is among reports, running boots and new ones, in that order; `waits` says of which someone waits. Reports have every
 * second turn at most: a boot has one and five other requests, so that half is enough, whoever else makes some up.
 */
export function openKindTurns(): (
  waits: (kind: WorkKind) => boolean,
) => Exclude<WorkKind, 'download'> | undefined {
  const passedOver = { running: 0, new: 0 }
  let reportWasLast = false
  return (waits) => {
    const others = (['running', 'new'] as const).filter(waits)
    reportWasLast = waits('report') && !(reportWasLast && others.length > 0)
    if (reportWasLast) return 'report'
    const chosen = others.findLast((kind) => passedOver[kind] >= maxPassedOver) ?? others[0]
    for (const kind of others) passedOver[kind] = kind === chosen ? 0 : passedOver[kind] + 1
    return chosen
  }
}
