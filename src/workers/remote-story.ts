import type { RefusalLog } from '../boot/refusal-log.ts'
import type { BootStory, StorySteps } from '../boot/story.ts'
import type { Transfers } from '../boot/transfers.ts'
import type { Clock } from '../domain/clock.ts'
import { PawlError } from '../errors.ts'
import type { Ask, AskedStep, FromKeeper, FromWorker, SideName } from './messages.ts'
import { unpackError } from './packed-error.ts'
import type { Wire } from './wire.ts'

/** Asks the keeper. */
export interface Asker {
  /** The story of one listener, as the keeper answers it. */
  story(side: SideName, local: { readonly transfers: Transfers; readonly clock: Clock }): BootStory
  /** Takes the keeper's answers; false for what is none. */
  take(message: FromKeeper<unknown>): boolean
  /** Steps whose answer has not come. */
  readonly waiting: () => number
  close(): void
}

/** Bounds of one worker. */
export interface AskLimits {
  /** Steps that the keeper is asked at one time. One more is told to come again. */
  readonly maxWaiting: number
  /** An answer that has not come by then is given up: its client comes again, with its Idempotency-Key. */
  readonly waitMilliseconds: number
  /** Tales of failed handshakes are left out while so many messages wait to be taken. */
  readonly maxTold: number
}

/** Boots wait at the door (admission), not here: what is under way at one time fits many times over. */
export const askLimits: AskLimits = { maxWaiting: 2000, waitMilliseconds: 30_000, maxTold: 5000 }

interface Waiting {
  readonly since: number
  resolve(value: unknown): void
  reject(error: Error): void
}

/** So often within the wait it is looked who waits too long. */
const looks = 20

/** Opens it on a wire to the keeper. `now` is in milliseconds and only runs forward. */
export function openAsker(wire: Wire<FromWorker>, now: () => number, limits: AskLimits = askLimits): Asker {
  /** In the order in which they were asked. */
  const waiting = new Map<number, Waiting>()
  let lastId = 0
  const timer = setInterval(giveUp, limits.waitMilliseconds / looks).unref()

  function giveUp(): void {
    const before = now() - limits.waitMilliseconds
    for (const [id, { since, reject }] of waiting) {
      if (since > before) return
      waiting.delete(id)
      reject(overloaded('the answer took too long'))
    }
  }

  function ask(side: SideName, step: AskedStep, args: readonly unknown[]): Promise<unknown> {
    if (waiting.size >= limits.maxWaiting)
      return Promise.reject(overloaded('the server has too much to do now'))
    lastId += 1
    const message: Ask = { kind: 'ask', id: lastId, side, step, args }
    return new Promise((resolve, reject) => {
      waiting.set(message.id, { since: now(), resolve, reject })
      wire.send(message)
    })
  }

  function takeOut(id: number): Waiting | undefined {
    const found = waiting.get(id)
    waiting.delete(id)
    return found // undefined where it was given up
  }

  return {
    story(side, local) {
      const asked = (step: AskedStep) => (request: unknown, more?: unknown) =>
        ask(side, step, more === undefined ? [request] : [request, more])
      const steps = Object.fromEntries(askedSteps.map((step) => [step, asked(step)]))
      return {
        ...(steps as unknown as Pick<StorySteps, AskedStep>), // the keeper answers each with the step of this name
        ...local,
        handshakeFailed(fault) {
          if (wire.waiting() < limits.maxTold) wire.send({ kind: 'handshake-failed', fault })
        },
      }
    },
    take(message) {
      if (message.kind === 'answer') takeOut(message.id)?.resolve(message.value)
      else if (message.kind === 'error') takeOut(message.id)?.reject(unpackError(message.error))
      else return false
      return true
    },
    waiting: () => waiting.size,
    close: () => clearInterval(timer),
  }
}

/**
 * The refusals of a worker that has a story of its own: the keeper counts them, so that a flood is bounded once. What it does not
 * get round to take is left out, as it would be where its own queue is full.
 */
export function remoteRefusals(
  wire: Wire<FromWorker>,
  { maxTold }: Pick<AskLimits, 'maxTold'> = askLimits,
): RefusalLog {
  let dropped = 0
  return {
    record(facts) {
      if (wire.waiting() < maxTold) wire.send({ kind: 'refusal', facts })
      else dropped += 1
    },
    flush: async () => {},
    dropped: () => dropped,
  }
}

/** Every step once: a step that is not in it does not compile. */
const askable: Readonly<Record<AskedStep, true>> = {
  siteScript: true,
  stage1: true,
  arrive: true,
  enrol: true,
  handover: true,
  redeem: true,
  redeemEpoxy: true,
  seed: true,
  report: true,
  extension: true,
  extensionKeySet: true,
  confirmSecret: true,
  registerKey: true,
  issueIdentity: true,
  identityConfiguration: true,
  identityKeySet: true,
  consoleLog: true,
  malformed: true,
  openDownload: true,
  openSignature: true,
  redirectDownload: true,
  findOpenArtifact: true,
  mayTransfer: true,
  renewTransfer: true,
  countTransfer: true,
  heartbeat: true,
}

/** The steps that may be asked. */
export const askedSteps = Object.keys(askable) as AskedStep[] // its keys are these

function overloaded(message: string): PawlError {
  return new PawlError('overloaded', message, { hint: 'ask again' })
}
