import { type Join, joinKinds, mapSecretSettings } from '../domain/join.ts'
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
  const common = { host: of.host, session: of.session, profile: of.profile }
  if (open.kind === 'kubeadm')
    return context.templates.render(joinKinds.kubeadm.template, { ...common, ...open.settings })
  const settings = Object.entries(open.settings ?? {}).map(([name, value]) => ({ name, value }))
  return context.templates.render(joinKinds.none.template, { ...common, settings })
}
