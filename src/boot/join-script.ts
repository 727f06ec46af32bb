import { type Join, joinKinds, mapSecretSettings } from '../domain/join.ts'
import type { TemplateName } from '../templates/variables.ts'
import type { BootContext } from './context.ts'

/** Where a join's secret setting belongs, for sealing: a sealed value moved to another profile or setting opens nothing. */
export function secretPlace(profile: string, sequence: string, setting: string): string {
  return `profile/${profile}/${sequence}/join/${setting}`
}

/** Renders a join script with the session's values. The join's secret settings are sealed; they are opened here only. */
export function renderJoin(
  context: Pick<BootContext, 'templates' | 'sealer'>,
  of: { host: string; session: string; profile: string; sequence: string },
  join: Join,
): string {
  const open = mapSecretSettings(join, (sealed, setting) =>
    context.sealer.open(sealed, secretPlace(of.profile, of.sequence, setting)),
  )
  const { template, variables } = joinKinds[open.kind]
  return context.templates.render(
    template as TemplateName,
    // The engine checks name and values against its table, and `profile apply` renders every join once.
    { host: of.host, session: of.session, profile: of.profile, ...variables(open.settings ?? {}) } as never,
  )
}
