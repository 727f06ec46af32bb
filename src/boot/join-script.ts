import type { JoinPlace } from '../domain/join/kind.ts'
import { type Join, joinKinds, mapSecretSettings } from '../domain/join.ts'
import type { TemplateName } from '../templates/variables.ts'
import type { BootContext } from './context.ts'
import { behindOverlay } from './join-overlay.ts'

export type { JoinPlace }

/** Where a join's secret setting belongs, for sealing: a sealed value moved to another profile or setting opens nothing. */
export function secretPlace(profile: string, sequence: string, setting: string): string {
  return `profile/${profile}/${sequence}/join/${setting}`
}

/** The join with its secret settings open: they are opened here only. */
export function openJoin(context: Pick<BootContext, 'sealer'>, of: JoinPlace, join: Join): Join {
  return mapSecretSettings(join, (sealed, setting) =>
    context.sealer.open(sealed, secretPlace(of.profile, of.sequence, setting)),
  )
}

/**
 * Renders a join script with the session's values. `more` is what the boot adds to the settings. The join's secret settings are sealed,
 * and opened for this alone.
 */
export function renderJoin(
  context: Pick<BootContext, 'templates' | 'sealer'>,
  of: JoinPlace,
  join: Join,
  more: Readonly<Record<string, unknown>> = {},
): string {
  const open = openJoin(context, of, join)
  const { template, variables } = joinKinds[open.kind]
  const script = context.templates.render(
    template as TemplateName,
    // The engine checks name and values against its table, and `profile apply` renders every join once.
    {
      ...{ host: of.host, session: of.session, profile: of.profile },
      ...variables(open.settings ?? {}, of),
      ...more,
    } as never,
  )
  return open.overlay === undefined ? script : behindOverlay(context, of, open.overlay, script)
}
