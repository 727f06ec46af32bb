import type { MediaNetwork } from '../domain/media-network.ts'
import type { BootContext } from './context.ts'

/** Whom a site script is for; nobody in particular where the media does not know its node. */
export interface SiteScriptOf {
  readonly host?: string
  /** The enrolment secret that this media carries. */
  readonly secret?: string
  readonly whenServerAbsent?: 'retry' | 'local'
  /** Whether the media keeps the secret in a file of its own, beside the script. */
  readonly secretFile?: boolean
  /** How the media reaches the server, where DHCP does not tell all of it. */
  readonly network?: MediaNetwork
}

/** Renders the script that calls stage 1 (`autoexec.ipxe`). With a secret in it, it is the node's and nobody else's. */
export function siteScript(context: Pick<BootContext, 'templates' | 'entry'>, of: SiteScriptOf): string {
  const { network } = of
  return context.templates.render('autoexec.ipxe', {
    publicUrl: context.entry.publicUrl,
    host: of.host ?? '',
    secret: of.secret ?? '',
    secretFile: of.secretFile ?? false,
    mac: network?.mac ?? '',
    vlan: network?.vlan?.toString() ?? '',
    address: network?.address ?? '',
    netmask: network?.netmask ?? '',
    prefixLength: network?.prefixLength?.toString() ?? '',
    gateway: network?.gateway ?? '',
    dns: network?.dns ?? '',
    whenServerAbsent: of.whenServerAbsent ?? 'retry',
  })
}
