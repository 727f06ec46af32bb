import { named, type Setting } from './config-setting.ts'
import { parseSyslog, wholeNumber } from './config-values.ts'

const day = 86_400

/** How long a boot, its tokens and its reinstall may take, and how often they are tried. */
export const bootSettings = {
  tokenLifetimeSeconds: {
    ...named('token-lifetime-seconds', 'seconds', '7200'),
    meaning: 'How long a handover, stage 2, stage 3 or join token is good for after it was handed out.',
    parse: wholeNumber(60, 7 * day),
  },
  epoxyTokenLifetimeSeconds: {
    ...named('epoxy-token-lifetime-seconds', 'seconds', '25200'),
    meaning: 'The same for profiles with `tokens: epoxy`, whose clients try for up to 6 hours.',
    parse: wholeNumber(60, 7 * day),
  },
  reportTokenLifetimeSeconds: {
    ...named('report-token-lifetime-seconds', 'seconds', '86400'),
    meaning: 'How long a report token is good for.',
    parse: wholeNumber(60, 7 * day),
  },
  sessionIdleSeconds: {
    ...named('session-idle-seconds', 'seconds', '7200'),
    meaning: 'A boot session ends this long after its last authenticated byte.',
    parse: wholeNumber(60, 7 * day),
  },
  sessionMaxSeconds: {
    ...named('session-max-seconds', 'seconds', '86400'),
    meaning: 'A boot session never lasts longer. Not below `sessionIdleSeconds`.',
    parse: wholeNumber(60, 30 * day),
  },
  maxStage1PerHour: {
    ...named('max-stage1-per-hour', 'count', '20'),
    meaning: 'A node that was served stage 1 more often loops, too, whatever came of its boots.',
    parse: wholeNumber(1, 3600),
  },
  repeatStage1Seconds: {
    ...named('repeat-stage1-seconds', 'seconds', '30'),
    meaning:
      'A second stage 1 of the same machine within this time replaces the first without a word: two NICs, or a lost answer.',
    parse: wholeNumber(0, 600),
  },
  alternatingMachinesSeconds: {
    ...named('alternating-machines-seconds', 'seconds', '86400'),
    meaning:
      'Two machines that come as one node in turn within this time raise the event `machines-alternate`. 0 turns it off.',
    parse: wholeNumber(0, 30 * day),
  },
  maxReinstallAttempts: {
    ...named('max-reinstall-attempts', 'count', '3'),
    meaning: 'After so many failed reinstalls a node is held until an operator looks.',
    parse: wholeNumber(1, 100),
  },
  maxReinstallFailures: {
    ...named('max-reinstall-failures', 'count', '6'),
    meaning:
      'A node whose last so many reinstalls all failed is not marked again without `--force`. 0 turns it off.',
    parse: wholeNumber(0, 1000),
  },
  reinstallMarkSeconds: {
    ...named('reinstall-mark-seconds', 'seconds', '0'),
    meaning: 'How long a reinstall mark is good for that no boot has served. 0: for ever.',
    parse: wholeNumber(0, 365 * day),
  },
  enrolmentLifetimeSeconds: {
    ...named('enrolment-lifetime-seconds', 'seconds', '3600'),
    meaning: 'How long the code of an unknown machine is good for.',
    parse: wholeNumber(60, 7 * day),
  },
  ipxeSyslog: {
    ...named('ipxe-syslog', 'URL', null),
    meaning:
      'Where iPXE sends its console from stage 1 on: `syslog://ADDRESS` (UDP, in clear) or `syslogs://NAME` (TLS). Only builds with `CONSOLE_SYSLOG` or `CONSOLE_SYSLOGS` do; stock ones have neither, and go on without.',
    parse: parseSyslog,
  },
  maxPendingMachines: {
    ...named('max-pending-machines', 'count', '1000'),
    meaning: 'How many unknown machines may wait for approval.',
    parse: wholeNumber(0, 100_000),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
