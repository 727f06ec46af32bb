import type { BootContext } from './context.ts'

/** Whom a site script is for; nobody in particular where the media does not know its node. */
export interface SiteScriptOf {
  readonly host?: string
  /** The enrolment secret that this media carries. */
  readonly secret?: string
  readonly whenServerAbsent?: 'retry' | 'local'
}

/** Renders the script that calls stage 1 (`autoexec.ipxe`). With a secret in it, it is the node's and nobody else's. */
export function siteScript(context: Pick<BootContext, 'templates' | 'settings'>, of: SiteScriptOf): string {
  return context.templates.render('autoexec.ipxe', {
    publicUrl: context.settings.publicUrl,
    host: of.host ?? '',
    secret: of.secret ?? '',
    whenServerAbsent: of.whenServerAbsent ?? 'retry',
  })
}
