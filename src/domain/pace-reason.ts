import type { TimedStage } from './usual-times.ts'

/**
 * Why a boot is slower than usual, as far as a server can know: what it was told and refused lately comes before what it can
 * only conclude from silence. The table is the order; the first row that applies is the reason.
 */

/** What is known of an open stage when somebody asks why. */
export interface PaceEvidence {
  readonly stage: TimedStage
  /** Whether its stages are URLs of the user's own (`tokens: epoxy`). */
  readonly elsewhere: boolean
  /** Whether its downloads may come from a cache, which tells us nothing. */
  readonly uncounted: boolean
  /** In words, of its last error report since anything else was heard. */
  readonly failed?: string | undefined
  /** In words, of its last refusal since anything was heard. */
  readonly refused?: string | undefined
  /** The address of another machine that came as this node during the stage. */
  readonly other?: string | undefined
  /** It was told to come again: until when, and what its join waits for where it is that. */
  readonly waitsUntil?: string | undefined
  readonly joinWaits?: string | undefined
  /** What went wrong with the last TLS handshake from its address since anything was heard. */
  readonly handshake?: string | undefined
  /** Since when the server runs, where it was last heard of before that. */
  readonly serverSince?: string | undefined
  readonly handoverOpened: boolean
  /** It was sent to another server for its downloads: its bytes count as soon as it is. */
  readonly redirected?: boolean
  readonly bytes: number
  /** Of all artifacts of the stage's image; 0 where none are ours. */
  readonly totalBytes: number
  readonly seconds: number
  readonly silentSeconds: number
}

/** Why, for people and for scripts. */
export interface PaceReason {
  /** Stable. */
  readonly code: PaceCode
  /** A sentence. */
  readonly text: string
  /** What to look at. */
  readonly hint: string
}

interface Row {
  readonly when: (e: PaceEvidence) => boolean
  readonly text: (e: PaceEvidence) => string
  readonly hint: string
}

const downloads = (e: PaceEvidence): boolean => e.totalBytes > 0 && !e.elsewhere

/** Every reason there is. */
export const paceReasons = {
  'another-machine': {
    when: (e) => e.other !== undefined,
    text: (e) => `another machine came as this node, from ${e.other}, and was refused`,
    hint: 'two machines have its boot medium, its secret or its address: find the other one',
  },
  'attempt-failed': {
    when: (e) => e.failed !== undefined,
    text: (e) => `it reported an error and may try again: ${e.failed}`,
    hint: 'the message is its own; its console and its log say more',
  },
  refused: {
    when: (e) => e.refused !== undefined,
    text: (e) => `it was refused: ${e.refused}`,
    hint: 'mend the cause, and it goes on or boots anew by itself: pawl event list --kind refused --node NAME',
  },
  'join-waits': {
    when: (e) => e.joinWaits !== undefined,
    text: (e) => `its join waits: ${e.joinWaits}`,
    hint: 'mend that, and it goes on by itself: pawl doctor asks its cluster, and names settings that do not open',
  },
  'told-to-wait': {
    when: (e) => e.waitsUntil !== undefined,
    text: (e) => `the server had no room and told it to come again at ${e.waitsUntil}`,
    hint: 'it comes by itself; pawl status says how much there is to do',
  },
  'handshake-failed': {
    when: (e) => e.handshake !== undefined,
    text: (e) => `a TLS handshake from its address failed: ${e.handshake}`,
    hint: 'pawl event list --kind handshake-failed says what to change',
  },
  'server-away': {
    when: (e) => e.serverSince !== undefined,
    text: (e) =>
      `the server was started at ${e.serverSince}, after it was last heard of: it was away meanwhile`,
    hint: 'machines ask again by themselves, some after minutes; start it anew if it does not',
  },
  elsewhere: {
    when: (e) => e.elsewhere,
    text: (e) => `nothing was heard since ${e.stage}: what it loads and runs there is not served here`,
    hint: 'look at its console, and at the server that its chain names',
  },
  downloading: {
    when: (e) => downloads(e) && moves(e),
    text: (e) => `its download runs: ${progress(e)}`,
    hint: 'the line, a cache near it or the bandwidth limits of this server are slower than usual',
  },
  'download-stopped': {
    when: (e) => downloads(e) && e.bytes > 0 && e.bytes < e.totalBytes && !e.handoverOpened,
    text: (e) =>
      `its download stopped: ${megabytes(e.bytes)} of ${megabytes(e.totalBytes)}, none for ${span(e.silentSeconds)}`,
    hint: 'its network or the machine itself is gone; look at its console',
  },
  'kernel-silent': {
    when: (e) => e.stage === 'stage1' && (e.handoverOpened || (downloads(e) && e.bytes >= e.totalBytes)),
    text: (e) =>
      `iPXE has downloaded all it needs; nothing was heard of its kernel for ${span(e.silentSeconds)}`,
    hint: 'the minimal system hangs, or waits for its network: look at its console (driver, VLAN, DHCP)',
  },
  'firmware-silent': {
    when: (e) => e.stage === 'stage1',
    text: (e) =>
      `nothing was heard since stage 1 was served, ${span(e.silentSeconds)} ago${e.uncounted ? '; what a cache sent it is not known here' : ''}`,
    hint: 'iPXE or the firmware hangs, or its network is gone: look at its console',
  },
  'kexec-silent': {
    when: (e) => e.stage === 'stage2' && downloads(e) && e.bytes >= e.totalBytes,
    text: (e) =>
      `${e.redirected === true ? 'it was sent to another server for the full system, and how far that has come is not known here' : 'the full system was downloaded'}; nothing was heard since, ${span(e.silentSeconds)} ago`,
    hint: 'kexec or the new kernel hangs, or it has no network: look at its console (memory, driver)',
  },
  'minimal-system-silent': {
    when: (e) => e.stage === 'stage2',
    text: (e) =>
      `the minimal system runs and has downloaded nothing from here${e.uncounted ? ', as far as is known: a cache tells nothing' : ''}`,
    hint: 'it hangs, checks its memory, or does not reach the place of its downloads: look at its console',
  },
  'full-system-silent': {
    when: (e) => e.stage === 'stage3',
    text: (e) =>
      `the full system runs and has its configuration; it has not gone on for ${span(e.silentSeconds)}`,
    hint: 'a service that it waits for does not start: look at its console or its journal',
  },
  joining: {
    when: () => true,
    text: (e) => `its join script runs, or hangs, since ${span(e.seconds)}`,
    hint: 'look at its journal, and whether the cluster that it joins answers',
  },
} as const satisfies Readonly<Record<string, Row>>

/** The name of a reason, stable for scripts. */
export type PaceCode = keyof typeof paceReasons

/** Heard of no longer ago than this, a download moves: transfers say so once a minute. */
const movingSeconds = 120

/** Whether bytes of a download came lately, and more are to come. */
export function moves(
  e: Pick<PaceEvidence, 'bytes' | 'totalBytes' | 'silentSeconds' | 'elsewhere'>,
): boolean {
  return !e.elsewhere && e.bytes > 0 && e.bytes < e.totalBytes && e.silentSeconds <= movingSeconds
}

/** Why a stage that takes long does so. */
export function reasonOf(evidence: PaceEvidence): PaceReason {
  const [code, row] = (Object.entries(paceReasons) as [PaceCode, Row][]).find(([, { when }]) =>
    when(evidence),
  ) ?? ['joining' as const, paceReasons.joining]
  return { code, text: row.text(evidence), hint: row.hint }
}

function progress({ bytes, totalBytes, seconds }: PaceEvidence): string {
  const rate = bytes / Math.max(1, seconds)
  const left = span(Math.ceil((totalBytes - bytes) / Math.max(1, rate)))
  return `${megabytes(bytes)} of ${megabytes(totalBytes)} at ${Math.round(rate / 1000)} kB/s, about ${left} more`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`
}

/** `45 s`, `3 min 20 s`, `2 h 5 min`. */
function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 120) return `${whole} s`
  if (whole < 7200) return `${Math.floor(whole / 60)} min${whole % 60 === 0 ? '' : ` ${whole % 60} s`}`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}
