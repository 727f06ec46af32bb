import type { JoinPlace } from '../domain/join/kind.ts'
import { overlayVariables } from '../domain/join/overlay.ts'
import { type Join, joinKinds, mapSecretSettings } from '../domain/join.ts'
import { Refusal } from '../domain/refusal.ts'
import { isPawlError } from '../errors.ts'
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

/**
 * Refuses a join that cannot be rendered for this node, as where it lacks a label, before anything is handed out. Secrets need not be open
 * for that.
 */
export function checkJoin(of: JoinPlace, join: Join, session?: string): void {
  fitting({ node: of.host, ...(session === undefined ? {} : { session }) }, () => {
    joinKinds[join.kind].variables(join.settings ?? {}, of)
    if (join.overlay !== undefined) overlayVariables(join.overlay, of)
  })
}

/** The script for a node that asks for its join: what cannot be rendered is a refusal, with an event that says why. */
export function renderFitting(
  context: Pick<BootContext, 'templates' | 'sealer'>,
  of: JoinPlace,
  join: Join,
  more: Readonly<Record<string, unknown>> = {},
): string {
  return fitting({ node: of.host, session: of.session }, () => renderJoin(context, of, join, more))
}

/** Makes a refusal of what does not fit this node. */
export function fitting<Got>(
  subject: { readonly node: string; readonly session?: string },
  step: () => Got,
): Got {
  try {
    return step()
  } catch (error) {
    if (!isPawlError(error, 'render-failed')) throw error
    throw new Refusal('does-not-fit', { ...subject, detail: { reason: error.message } })
  }
}
