import type { JoinPlace } from '../domain/join/kind.ts'
import { type Overlay, overlayKinds, overlayVariables } from '../domain/join/overlay.ts'
import type { TemplateName } from '../templates/variables.ts'
import type { BootContext } from './context.ts'

/**
 * The join's script behind that of its overlay: one script, which ends where the overlay fails. Each is in a shell of its own, so that
 * neither's traps and variables are the other's.
 */
export function behindOverlay(
  context: Pick<BootContext, 'templates'>,
  of: JoinPlace,
  overlay: Overlay,
  script: string,
): string {
  const before = context.templates.render(
    overlayKinds[overlay.kind].template as TemplateName,
    // The engine checks name and values against its table.
    {
      ...{ host: of.host, session: of.session, profile: of.profile },
      ...overlayVariables(overlay, of),
    } as never,
  )
  return `#!/bin/sh\nset -eu\n(\n${bodyOf(before)})\n(\n${bodyOf(script)})\n`
}

/** Without the line that says what runs it: the engine makes sure that it is `#!/bin/sh`. */
function bodyOf(script: string): string {
  return script.slice(script.indexOf('\n') + 1)
}
