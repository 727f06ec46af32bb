import { named, type Setting } from './config-setting.ts'
import { parseProxy } from './config-values.ts'

/** What stands in front of the boot listener. */
export const frontSettings = {
  proxyProtocolFrom: {
    ...named('proxy-protocol-from', 'address', null),
    meaning:
      'Addresses and prefixes of proxies that pass TLS through to the boot listener and tell the client’s address by the PROXY protocol, version 1 or 2. From these it is required, from others it is refused.',
    parse: parseProxy,
    many: true,
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
