import { named, type Setting } from './config-setting.ts'
import { oneOf, parseTftpListen, wholeNumber } from './config-values.ts'

/** Files by TFTP: where, what, and how much at a time. */
export const tftpSettings = {
  tftpListen: {
    ...named('tftp-listen', 'HOST:PORT', 'off'),
    meaning:
      'Where iPXE is served by TFTP: `[::]:69` for firmware, or `off`. On a machine with several addresses in one network, name the one that machines are told.',
    parse: parseTftpListen,
  },
  tftpNodeScripts: {
    ...named('tftp-node-scripts', 'word', 'off'),
    meaning:
      '`on`: who asks for `autoexec.ipxe` from the address of one node, or in `mac-52-54-00-12-34-56/`, is told that node’s name. Never a secret.',
    parse: oneOf('off', 'on'),
  },
  tftpMaxBlockSize: {
    ...named('tftp-max-block-size', 'bytes', '65464'),
    meaning:
      'The largest TFTP block that is granted. 1468 keeps packets whole where a network drops fragments.',
    parse: wholeNumber(512, 65_464),
  },
  tftpMaxWindowSize: {
    ...named('tftp-max-window-size', 'count', '64'),
    meaning: 'The most TFTP blocks that are granted before an answer. 1 turns windows off.',
    parse: wholeNumber(1, 65_535),
  },
  tftpMaxTransfers: {
    ...named('tftp-max-transfers', 'count', '10000'),
    meaning: 'TFTP transfers at one time. Then the oldest that nobody answered makes room.',
    parse: wholeNumber(1, 1_000_000),
  },
  tftpMaxTransfersPerClient: {
    ...named('tftp-max-transfers-per-client', 'count', '256'),
    meaning:
      'The same of one IPv4 address or IPv6 /64, which may be a whole site behind NAT. Then its oldest that stalls makes room.',
    parse: wholeNumber(1, 1_000_000),
  },
  tftpGiveUpSeconds: {
    ...named('tftp-give-up-seconds', 'seconds', '30'),
    meaning: 'A TFTP client that answered before and is silent for so long is given up.',
    parse: wholeNumber(1, 3600),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
