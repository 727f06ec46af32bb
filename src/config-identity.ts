import { named, type Setting } from './config-setting.ts'
import { parseIdentityIssuer, wholeNumber } from './config-values.ts'

/** The identity documents of nodes: who says so, for how long, and how often the key changes. */
export const identitySettings = {
  identityIssuer: {
    ...named('identity-issuer', 'URL', null),
    meaning:
      'The issuer of the identity documents of nodes, where it is not the public URL: a URL whose `/.well-known/` leads to the boot listener.',
    parse: parseIdentityIssuer,
  },
  identitySeconds: {
    ...named('identity-seconds', 'seconds', '3600'),
    meaning: 'How long an identity document is good, unless the profile says it.',
    parse: wholeNumber(300, 86_400),
  },
  identityOverlapSeconds: {
    ...named('identity-overlap-seconds', 'seconds', '1200'),
    meaning:
      'A node renews its document so long before it ends; half of its lifetime at most. So long may this server be away.',
    parse: wholeNumber(60, 43_200),
  },
  identityKeyDays: {
    ...named('identity-key-days', 'days', '30'),
    meaning: 'After so long another key signs identity documents.',
    parse: wholeNumber(1, 3650),
  },
  identityKeyLeadSeconds: {
    ...named('identity-key-lead-seconds', 'seconds', '86400'),
    meaning:
      'A new key is published so long before it signs: longer than who checks documents keeps the key set.',
    parse: wholeNumber(600, 7 * 86_400),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
