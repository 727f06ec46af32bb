import { named, type Setting } from './config-setting.ts'
import { parseNetwork } from './config-values.ts'

/** Where extension services may be. */
export const extensionSettings = {
  extensionAllowedNetworks: {
    ...named('extension-allowed-networks', 'address', null),
    meaning:
      'Addresses and prefixes that extension services may be at beside the public Internet, by `http://` too. May be repeated.',
    parse: parseNetwork,
    many: true,
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
