import type { BootSettings } from '../boot/context.ts'
import { defaultSeconds, limitsOf, type StageLimits } from '../domain/pace.ts'
import type { TimedStage } from '../domain/usual-times.ts'
import { timedStages } from '../domain/usual-times.ts'
import type { Queries } from '../storage/database.ts'
import { allProfiles } from '../storage/fleet.ts'
import { type BootKind, listUsualTimes, usualTimeOf } from '../storage/usual-times.ts'

/** When each stage of each profile's sequences is slow. */
export interface PaceLimits {
  of(kind: BootKind, stage: TimedStage): StageLimits
  /** No stage is slow before that. */
  readonly leastSeconds: number
}

/** Reads what profiles state and what was learned. */
export async function readPaceLimits(db: Queries, settings: BootSettings): Promise<PaceLimits> {
  const expected = new Map((await allProfiles(db)).map((profile) => [profile.name as string, profile.expect]))
  const learned = new Map(
    (await listUsualTimes(db)).map((row) => [
      `${row.profile} ${row.sequence} ${row.stage}`,
      usualTimeOf(row),
    ]),
  )
  const of: PaceLimits['of'] = ({ profile, sequence }, stage) =>
    limitsOf(
      stage,
      {
        expected: expected.get(profile)?.[sequence]?.[stage],
        learned: learned.get(`${profile} ${sequence} ${stage}`),
      },
      settings,
    )
  const all = [...expected.keys()].flatMap((profile) =>
    (['boot', 'reinstall'] as const).flatMap((sequence) =>
      timedStages.map((stage) => of({ profile, sequence }, stage).slowAfterSeconds),
    ),
  )
  return { of, leastSeconds: Math.min(...Object.values(defaultSeconds), ...all) }
}
