/**
 * One read transfer as a state machine: what has come and what time it is go in, what to send comes out. No socket, no
 * clock; each function changes the one object it is given and nothing else. Times are milliseconds of any monotonic clock.
 *
 * Blocks are counted from 1 without an end; on the wire they are the lower 16 bits, so that block 65536 is block 0.
 *
 * When to send again is measured, not guessed: a fixed second of waiting did not finish 1 MB at 5 % loss in 40 s. The
 * estimate is that of RFC 6298 (smoothed round trip and its deviation, doubled on each silence); an answer to what was
 * sent twice is no measurement (Karn).
 */

/** What a transfer is opened with. */
export interface TransferPlan {
  readonly fileBytes: number
  readonly blockSize: number
  readonly windowSize: number
  /** Whether an OACK comes first. */
  readonly hasOack: boolean
  /** What the client asked to wait at most before sending again (RFC 2349). */
  readonly timeoutSeconds?: number | undefined
  /** How long a peer that has answered may be silent before it is given up. */
  readonly giveUpMilliseconds: number
}

/** Why a transfer is over without all of it acknowledged. */
export type GivenUp =
  /** The peer never answered: it may not even exist. */
  | 'unanswered'
  /** It stopped answering. */
  | 'silent'
  /** It stopped answering when all had been sent: most likely its last ACK was lost. */
  | 'unconfirmed'

/** What is to be done now. `last` is sent too. */
export type Step =
  | { readonly kind: 'wait' | 'oack' | 'done' }
  | { readonly kind: 'blocks'; readonly first: number; readonly last: number }
  | { readonly kind: 'given-up'; readonly why: GivenUp }

/** Where one transfer stands. Only the functions of this file write it. */
export interface Transfer {
  readonly plan: TransferPlan
  /** How many blocks the file is; the last is shorter than the others, and may be empty. */
  readonly total: number
  /** The last block that is acknowledged; -1 while the OACK is not. */
  acked: number
  /** The last block that was sent. */
  sent: number
  /** Whether the peer has answered: what claims its address gets packets. */
  answered: boolean
  /** When the present blocks were sent. */
  sentAt: number
  /** When the peer last acknowledged something new. */
  progressAt: number
  /** When to send again. */
  deadline: number
  /** Whether the present blocks were sent because of silence: their ACK tells no round trip. */
  isRepeat: boolean
  /** How often in a row there was silence. */
  silences: number
  /** Where a repeated ACK already made us send again, once for each place. */
  rewoundAt: number
  /** The smoothed round trip and its deviation; -1 before the first (a field that is always a number is written in place). */
  roundTrip: number
  deviation: number
  /** Blocks that were sent more than once, for the log. */
  resent: number
}

/** Waits are never shorter: a virtual machine may be away for so long. */
const minWait = 30
const firstWait = 1000
const maxWait = 5000
/** Before the peer has answered once: who forges an address must not be able to aim much at it. */
const triesUnanswered = 3

const wait: Step = { kind: 'wait' }

/** Opens a transfer. The first thing to send is the OACK, or block 1 alone. */
export function openTransfer(plan: TransferPlan, now: number): { transfer: Transfer; step: Step } {
  const transfer: Transfer = {
    plan,
    total: Math.floor(plan.fileBytes / plan.blockSize) + 1,
    acked: plan.hasOack ? -1 : 0,
    sent: plan.hasOack ? 0 : 1,
    answered: false,
    sentAt: now,
    progressAt: now,
    deadline: now + (plan.timeoutSeconds === undefined ? firstWait : plan.timeoutSeconds * 1000),
    isRepeat: false,
    silences: 0,
    rewoundAt: -1,
    roundTrip: -1,
    deviation: 0,
    resent: 0,
  }
  return { transfer, step: firstStep(transfer) }
}

/** The same request came again before the first answer: the OACK or block 1 was lost, or is on its way. */
export function repeatFirst(transfer: Transfer): Step {
  if (transfer.answered) return wait
  transfer.isRepeat = true
  return firstStep(transfer)
}

/**
 * The ACK that is mostly the next to come, where one block goes at a time: that of the one block which is on its way, sent
 * once. Moves on and gives the block to send; 0 where it is any other ACK, for `onAck`, which decides the same and more
 * (a test holds the two against each other). A packet each way is what such a transfer costs, so nothing is made here.
 */
export function onExpectedAck(transfer: Transfer, wireBlock: number, now: number): number {
  const { acked, sent, plan } = transfer
  if (plan.windowSize !== 1 || !transfer.answered || sent !== acked + 1 || sent === transfer.total) return 0
  if ((sent & 0xffff) !== wireBlock || transfer.isRepeat) return 0
  measure(transfer, now)
  transfer.acked = sent
  transfer.progressAt = now
  transfer.sent = sent + 1
  transfer.sentAt = now
  transfer.deadline = now + waitOf(transfer)
  return sent + 1
}

/** An ACK came, with the block number as it is on the wire. */
export function onAck(transfer: Transfer, wireBlock: number, now: number): Step {
  if (transfer.acked < 0) return wireBlock === 0 ? onOackAnswered(transfer, now) : wait
  const ahead = (wireBlock - transfer.acked) & 0xffff
  // An ACK of what was not sent yet: old, or not from the peer.
  if (ahead > transfer.sent - transfer.acked) return wait
  if (ahead === 0) return onRepeatedAck(transfer, now)
  const isWhole = ahead === transfer.sent - transfer.acked
  measure(transfer, now)
  transfer.answered = true
  transfer.acked += ahead
  transfer.progressAt = now
  if (transfer.acked === transfer.total) return { kind: 'done' }
  // An ACK within the window says that the block behind it was lost (RFC 7440): on from there.
  if (!isWhole) transfer.resent += Math.min(transfer.sent, lastOfWindow(transfer)) - transfer.acked
  return sendWindow(transfer, now)
}

/** Time has passed. Does nothing before the deadline. */
export function onTime(transfer: Transfer, now: number): Step {
  if (now < transfer.deadline) return wait
  transfer.silences += 1
  if (!transfer.answered) {
    if (transfer.silences >= triesUnanswered) return { kind: 'given-up', why: 'unanswered' }
    transfer.isRepeat = true
    transfer.deadline = now + waitOf(transfer)
    return firstStep(transfer)
  }
  const isEnd = transfer.sent === transfer.total
  // When everything was sent, the peer's last ACK may be lost and the peer gone.
  const patience = transfer.plan.giveUpMilliseconds / (isEnd ? 3 : 1)
  if (now - transfer.progressAt >= patience)
    return { kind: 'given-up', why: isEnd ? 'unconfirmed' : 'silent' }
  return sendAgain(transfer, now, true)
}

/** The bytes that are acknowledged. */
export function ackedBytes({ acked, total, plan }: Transfer): number {
  return acked === total ? plan.fileBytes : Math.max(0, acked) * plan.blockSize
}

function firstStep({ acked }: Transfer): Step {
  return acked < 0 ? { kind: 'oack' } : { kind: 'blocks', first: 1, last: 1 }
}

function onOackAnswered(transfer: Transfer, now: number): Step {
  measure(transfer, now)
  transfer.answered = true
  transfer.acked = 0
  transfer.progressAt = now
  return sendWindow(transfer, now)
}

/**
 * An ACK came again. With one block at a time that means nothing: answering it would double every block from then on (the
 * Sorcerer's Apprentice, RFC 1123). With a window it says that the first block of the window was lost: it is sent again, once
 * for each place, and not in answer to what was on its way before the window was sent.
 */
function onRepeatedAck(transfer: Transfer, now: number): Step {
  const { plan, acked, rewoundAt, sentAt } = transfer
  if (plan.windowSize === 1 || acked === rewoundAt || transfer.sent === acked) return wait
  if (now - sentAt < Math.max(0, transfer.roundTrip) / 4) return wait
  transfer.rewoundAt = acked
  return sendAgain(transfer, now, false)
}

function sendWindow(transfer: Transfer, now: number): Step {
  const first = transfer.acked + 1
  transfer.sent = Math.max(transfer.sent, lastOfWindow(transfer))
  transfer.isRepeat = false
  transfer.sentAt = now
  transfer.deadline = now + waitOf(transfer)
  return { kind: 'blocks', first, last: transfer.sent }
}

function sendAgain(transfer: Transfer, now: number, isRepeat: boolean): Step {
  transfer.resent += transfer.sent - transfer.acked
  transfer.isRepeat = isRepeat
  transfer.sentAt = now
  transfer.deadline = now + waitOf(transfer)
  return { kind: 'blocks', first: transfer.acked + 1, last: transfer.sent }
}

function lastOfWindow({ acked, plan, total }: Transfer): number {
  return Math.min(acked + plan.windowSize, total)
}

/**
 * RFC 6298, section 2. An answer to what was sent twice is no measurement, and the doubled wait stays; unless it came so fast
 * behind the second sending that it answers that: then the first was lost, and waiting longer for the next helps nobody. (A
 * client whose buffer is smaller than its window loses the end of each: doubled every time, 1 MB took 13 s.)
 */
function measure(transfer: Transfer, now: number): void {
  const sample = now - transfer.sentAt
  const { roundTrip, deviation } = transfer
  if (transfer.isRepeat) {
    if (roundTrip >= 0 && sample <= Math.max(2, roundTrip + 4 * deviation)) transfer.silences = 0
    return
  }
  if (roundTrip < 0) {
    transfer.roundTrip = sample
    transfer.deviation = sample / 2
  } else {
    transfer.deviation += (Math.abs(roundTrip - sample) - deviation) / 4
    transfer.roundTrip = roundTrip + (sample - roundTrip) / 8
  }
  transfer.silences = 0
}

function waitOf({ roundTrip, deviation, silences, plan }: Transfer): number {
  const most = plan.timeoutSeconds === undefined ? maxWait : plan.timeoutSeconds * 1000
  // A client that asked for a time waits so long itself; once the round trip is known, the rest need not.
  const estimate =
    roundTrip < 0
      ? plan.timeoutSeconds === undefined
        ? firstWait
        : most
      : Math.max(minWait, roundTrip + 4 * deviation)
  return Math.min(estimate * 2 ** Math.min(silences, 16), most)
}
