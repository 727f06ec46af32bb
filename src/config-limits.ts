import { named, type Setting } from './config-setting.ts'
import { wholeNumber } from './config-values.ts'

/**
 * How much one process takes at a time. The defaults let 10,000 machines boot at once, thousands of them behind one address;
 * docs/limits.md says how much memory follows from them.
 */
export const limitSettings = {
  requestTimeoutSeconds: {
    ...named('request-timeout-seconds', 'seconds', '15'),
    meaning:
      'A request must have arrived whole by then, body included. Answers may take as long as they need.',
    parse: wholeNumber(1, 300),
  },
  headerTimeoutSeconds: {
    ...named('header-timeout-seconds', 'seconds', '10'),
    meaning: 'Its headers must have arrived by then; where `requestTimeoutSeconds` is less, by that.',
    parse: wholeNumber(1, 300),
  },
  maxHeaderBytes: {
    ...named('max-header-bytes', 'bytes', '16384'),
    meaning: 'The largest request line and headers, together.',
    parse: wholeNumber(4096, 1024 * 1024),
  },
  handshakeTimeoutSeconds: {
    ...named('handshake-timeout-seconds', 'seconds', '10'),
    meaning: 'A TLS handshake must be over by then, on both listeners.',
    parse: wholeNumber(1, 120),
  },
  idleTimeoutSeconds: {
    ...named('idle-timeout-seconds', 'seconds', '15'),
    // iPXE pools connections for 10 s: one that the server closed before costs it a failed request.
    meaning:
      'A connection without a request is closed after this time. More than the 10 s that iPXE keeps one.',
    parse: wholeNumber(11, 3600),
  },
  stallTimeoutSeconds: {
    ...named('stall-timeout-seconds', 'seconds', '120'),
    meaning: 'A connection that moves no byte for so long in the middle of an answer is closed.',
    parse: wholeNumber(10, 3600),
  },
  maxConnections: {
    ...named('max-connections', 'count', '20000'),
    meaning:
      'Connections to the boot listener at one time, in each process; one more closes the one that is idle longest. Where the system allows fewer open files, as many as it does.',
    parse: wholeNumber(10, 1_000_000),
  },
  maxOperatorConnections: {
    ...named('max-operator-connections', 'count', '2000'),
    meaning:
      'Connections to the operator listener at one time. One more closes the one that is idle longest.',
    parse: wholeNumber(10, 100_000),
  },
  maxConnectionsPerAddress: {
    ...named('max-connections-per-address', 'count', '10000'),
    meaning:
      'Connections at one time from one IPv4 address or IPv6 /64, on either listener. A whole site may be behind one.',
    parse: wholeNumber(1, 1_000_000),
  },
  maxNewConnectionsPerAddress: {
    ...named('max-new-connections-per-address', 'count', '1000'),
    meaning:
      'New connections a second from one IPv4 address or IPv6 /64. Ten times as many may come at once after a pause.',
    parse: wholeNumber(1, 1_000_000),
  },
  maxHandshakesPerAddress: {
    ...named('max-handshakes-per-address', 'count', '5000'),
    meaning:
      'Connections to the boot listener from one IPv4 address or IPv6 /64 that have not finished their handshake.',
    parse: wholeNumber(1, 1_000_000),
  },
  maxRequestsPerConnection: {
    ...named('max-requests-per-connection', 'count', '1000'),
    meaning: 'A connection is closed behind so many requests.',
    parse: wholeNumber(10, 1_000_000),
  },
  maxBootWork: {
    ...named('max-boot-work', 'count', '64'),
    meaning:
      'Boot requests that one process works on at one time; the others wait for their turn. At most three quarters of them, and 48, may wait for extension services, and five eighths, and 40, for clusters that make credentials.',
    parse: wholeNumber(1, 10_000),
  },
  maxBootQueue: {
    ...named('max-boot-queue', 'count', '5000'),
    meaning:
      'Boot requests that wait for their turn. Who comes beyond that is told to come again (503, `Retry-After`).',
    parse: wholeNumber(0, 100_000),
  },
  maxBootWaitSeconds: {
    ...named('max-boot-wait-seconds', 'seconds', '15'),
    meaning:
      'Who would wait longer, or has, is told to come again. Less than proxies and clients wait. A stage 1 waits 2 s at most.',
    parse: wholeNumber(1, 50),
  },
  maxRetryAfterSeconds: {
    ...named('max-retry-after-seconds', 'seconds', '120'),
    meaning: 'The longest that a machine is told to wait before it comes again.',
    parse: wholeNumber(5, 900),
  },
  maxDownloads: {
    ...named('max-downloads', 'count', '2000'),
    meaning:
      'Downloads that one process sends at one time, each of at most 250 KB of memory while its reader waits. One address has at most half of them.',
    parse: wholeNumber(2, 100_000),
  },
  maxDownloadsPerSession: {
    ...named('max-downloads-per-session', 'count', '8'),
    meaning: 'Downloads of one boot session at one time.',
    parse: wholeNumber(2, 1000),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
