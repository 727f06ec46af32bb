import { named, type Setting } from './config-setting.ts'
import { oneOf } from './config-values.ts'

/** How nodes prove who they are. */
export const evidenceSettings = {
  bootClientCertificates: {
    ...named('boot-client-certificates', 'word', 'tls1.3'),
    meaning:
      'Which clients of the boot listener are asked for a certificate: `tls1.3` those that speak it (our agents, and no iPXE), `always` all, for iPXE builds with a certificate of their own; stock iPXE before April 2025 cannot connect then. `never` none: profiles that require certificates boot nothing.',
    parse: oneOf('tls1.3', 'always', 'never'),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
